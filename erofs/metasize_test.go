package erofs

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

var metaTree = flag.String("metatree", "", "directory that BenchmarkMetadataSize measures; the Go source tree if empty")

// scanTree makes a tree of a directory with what the file system says about it. Files up to 512 bytes are inline, as in a converted image; the
// others lie one behind the other on device 1, in the order of the tree.
func scanTree(tb testing.TB, dir string) (*Inode, WriteOptions) {
	tb.Helper()
	const inlineLimit = 512
	var inline []byte
	block := uint64(0)
	links := map[uint64]*Inode{}
	dirs := map[string]*Inode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		n := links[st.Ino]
		if n == nil {
			n = &Inode{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Sec, MtimeNsec: uint32(st.Mtim.Nsec)}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				dirs[path] = n
			case unix.S_IFLNK:
				if n.Target, err = os.Readlink(path); err != nil {
					return err
				}
			case unix.S_IFREG:
				n.Size = st.Size
				switch {
				case n.Size == 0:
				case n.Size <= inlineLimit:
					b, err := os.ReadFile(path)
					if err != nil {
						return err
					}
					n.Inline = Inline{Off: int64(len(inline)), Len: len(b)}
					inline = append(inline, b...)
				default:
					n.Extents = []Extent{{Len: n.Size, Device: 1, Block: block}}
					block += uint64(fileBlocks(n.Size))
				}
			}
			if st.Nlink > 1 && !d.IsDir() {
				links[st.Ino] = n
			}
		}
		if parent := dirs[filepath.Dir(path)]; parent != nil {
			parent.Entries = append(parent.Entries, Dirent{d.Name(), n})
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return dirs[dir], WriteOptions{
		Devices:    []Device{{Tag: fmt.Sprintf("%064d", 0), Blocks: block}},
		InlineData: bytes.NewReader(inline),
	}
}

// parts are the bytes of an image by what they say. Each is also compressed alone, which shows what dominates the whole.
type parts struct {
	names  []string // of the parts, in the order of the format
	bytes  map[string][]byte
	inodes int
}

func (p *parts) add(name string, b []byte) {
	if _, ok := p.bytes[name]; !ok {
		p.names = append(p.names, name)
	}
	p.bytes[name] = append(p.bytes[name], b...)
}

// dissect takes an image apart.
func dissect(tb testing.TB, image []byte) *parts {
	tb.Helper()
	fsys, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		tb.Fatal(err)
	}
	p := &parts{bytes: map[string][]byte{}}
	met := map[uint64]bool{}
	var visit func(n *node)
	visit = func(n *node) {
		if met[n.nid] {
			return
		}
		met[n.nid] = true
		p.inodes++
		start := n.body - int64(n.XattrSize) - extendedSize
		p.add("inodes", image[start:start+extendedSize])
		p.add("xattrs", image[n.body-int64(n.XattrSize):n.body])
		switch {
		case n.isDir():
			for i := range n.dirBlocks() {
				d, err := n.dirBlock(i)
				if err != nil {
					tb.Fatal(err)
				}
				p.add("entries", d.b[:d.count*direntSize])
				for k := range d.count {
					p.add("names", d.name(k))
				}
				for k := range d.count {
					if name := string(d.name(k)); name != "." && name != ".." {
						c, err := n.child(d.entry(k))
						if err != nil {
							tb.Fatal(err)
						}
						visit(c)
					}
				}
			}
		case n.Layout == layoutInline:
			part := "inline data"
			if n.isSymlink() {
				part = "link targets"
			}
			p.add(part, image[n.body:n.body+int64(n.Size)])
		case n.Layout == layoutChunked:
			table := alignUp(n.body, chunkIndexSize)
			bits := fsys.bits + uint8(n.U&chunkBitsMask)
			p.add("chunk indexes", image[table:table+chunkIndexSize*((int64(n.Size)-1)>>bits+1)])
		}
	}
	root, err := fsys.inode(fsys.root())
	if err != nil {
		tb.Fatal(err)
	}
	visit(root)
	return p
}

func zstdLen(tb testing.TB, b []byte, level zstd.EncoderLevel) int {
	tb.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Close()
	return len(w.EncodeAll(b, nil))
}

// BenchmarkMetadataSize reports what a metadata image costs, plain, as artifacts compress it, and at the best level there is.
func BenchmarkMetadataSize(b *testing.B) {
	dir := *metaTree
	if dir == "" {
		out, err := exec.Command(require.Tool(b, "go"), "env", "GOROOT").Output()
		if err != nil {
			b.Fatal(err)
		}
		dir = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	root, o := scanTree(b, dir)
	m := &memImage{}
	for b.Loop() {
		m.b = nil
		if _, err := Write(m, root, o); err != nil {
			b.Fatal(err)
		}
	}
	p := dissect(b, m.b)
	per := func(n int) float64 { return float64(n) / float64(p.inodes) }
	b.ReportMetric(float64(p.inodes), "inodes")
	b.ReportMetric(per(len(m.b)), "B/inode")
	b.ReportMetric(per(zstdLen(b, m.b, zstd.SpeedBetterCompression)), "zstd-B/inode")
	b.ReportMetric(per(zstdLen(b, m.b, zstd.SpeedBestCompression)), "best-B/inode")
	used := 0
	fmt.Fprintf(b.Output(), "%-14s %9s %8s %8s\n", "B/inode", "plain", "zstd", "best")
	line := func(name string, content []byte) {
		fmt.Fprintf(b.Output(), "%-14s %9.2f %8.2f %8.2f\n", name, per(len(content)),
			per(zstdLen(b, content, zstd.SpeedBetterCompression)), per(zstdLen(b, content, zstd.SpeedBestCompression)))
	}
	for _, name := range p.names {
		line(name, p.bytes[name])
		used += len(p.bytes[name])
	}
	fmt.Fprintf(b.Output(), "%-14s %9.2f\n", "unused", per(len(m.b)-used))
	line("image", m.b)
}
