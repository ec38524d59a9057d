package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fixture is a tree with all its data, ready to be written and compared.
type fixture struct {
	root    *Inode
	opts    WriteOptions
	inline  []byte
	data    []byte   // blocks 1 to MetaBlock-1 of a plain image
	devices [][]byte // extra devices; shorter than the device where the rest is zero
}

// memImage is an image in memory.
type memImage struct{ b []byte }

func (m *memImage) WriteAt(p []byte, off int64) (int, error) {
	if end := off + int64(len(p)); end > int64(len(m.b)) {
		m.b = append(m.b, make([]byte, end-int64(len(m.b)))...)
	}
	return copy(m.b[off:], p), nil
}

// build writes the image to memory.
func (f *fixture) build(t testing.TB) ([]byte, Stats) {
	t.Helper()
	m := &memImage{}
	if len(f.data) > 0 {
		if _, err := m.WriteAt(f.data, BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	f.opts.InlineData = bytes.NewReader(f.inline)
	stats, err := Write(m, f.root, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(m.b)) != stats.Size || stats.Size%BlockSize != 0 {
		t.Fatalf("image has %d bytes, Stats.Size is %d", len(m.b), stats.Size)
	}
	return m.b, stats
}

// open opens an image of the fixture with its devices.
func (f *fixture) open(t testing.TB, image []byte) *FS {
	t.Helper()
	var devices []io.ReaderAt
	for i, d := range f.devices {
		devices = append(devices, zeroPadded{d, int64(f.opts.Devices[i].Blocks) * BlockSize})
	}
	fsys, err := Open(bytes.NewReader(image), int64(len(image)), devices...)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// zeroPadded is a device whose bytes behind b are zero.
type zeroPadded struct {
	b    []byte
	size int64
}

func (z zeroPadded) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(p)), z.size-off)))
	clear(p[:n])
	if off < int64(len(z.b)) {
		copy(p[:n], z.b[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// save writes image and devices to files.
func (f *fixture) save(t testing.TB, image []byte) (path string, devices []string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "image.erofs")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, d := range f.devices {
		dev := filepath.Join(dir, fmt.Sprintf("device%d", i+1))
		if err := os.WriteFile(dev, d, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(dev, int64(f.opts.Devices[i].Blocks)*BlockSize); err != nil {
			t.Fatal(err)
		}
		devices = append(devices, dev)
	}
	return path, devices
}

// want returns what a regular file holds at off, worked out from its extents one byte range at a time.
func (f *fixture) want(n *Inode, off int64, size int) []byte {
	b := make([]byte, min(int64(size), n.Size-off))
	fill := func(start int64, src []byte) {
		lo, hi := max(start, off), min(start+int64(len(src)), off+int64(len(b)))
		if lo < hi {
			copy(b[lo-off:hi-off], src[lo-start:])
		}
	}
	for _, e := range n.Extents {
		src, first := f.data, (int64(e.Block)-1)*BlockSize
		if e.Device > 0 {
			src, first = f.devices[e.Device-1], int64(e.Block)*BlockSize
		}
		if first < int64(len(src)) {
			fill(e.Off, src[first:min(first+e.Len, int64(len(src)))])
		}
	}
	fill(n.Size-int64(n.Inline.Len), f.inline[n.Inline.Off:][:n.Inline.Len])
	return b
}

// probes are the file ranges worth comparing: everything in small files, and in large ones what lies around the borders of extents.
func probes(n *Inode) [][2]int64 {
	const window = 64 << 10
	if n.Size <= 4*window {
		return [][2]int64{{0, n.Size}}
	}
	list := [][2]int64{{0, window}, {n.Size - window, window}}
	for _, e := range n.Extents {
		list = append(list, [2]int64{max(0, e.Off-100), window}, [2]int64{max(0, e.Off+e.Len-window/2), window})
	}
	for i := range list {
		list[i][1] = min(list[i][1], n.Size-list[i][0])
	}
	return list
}

// each calls fn for every path of the tree, "." first.
func (f *fixture) each(fn func(path string, n *Inode)) {
	var visit func(path string, n *Inode)
	visit = func(path string, n *Inode) {
		fn(path, n)
		for _, e := range n.Entries {
			visit(strings.TrimPrefix(path+"/"+e.Name, "./"), e.Inode)
		}
	}
	visit(".", f.root)
}

// addInline appends bytes to the inline data.
func (f *fixture) addInline(b []byte) Inline {
	f.inline = append(f.inline, b...)
	return Inline{Off: int64(len(f.inline) - len(b)), Len: len(b)}
}

// newFixture returns an empty tree over devices of random bytes. plain says how many blocks of data the image itself has.
func newFixture(r *rand.Rand, plain int, devices ...int) *fixture {
	f := &fixture{root: &Inode{Mode: unix.S_IFDIR | 0o755}}
	f.opts.UUID = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}
	f.opts.BuildTime = 1700000000
	if plain > 0 {
		f.data = randomBytes(r, plain*BlockSize)
		f.opts.MetaBlock = uint64(plain) + 1
	}
	for i, blocks := range devices {
		f.devices = append(f.devices, randomBytes(r, blocks*BlockSize))
		f.opts.Devices = append(f.opts.Devices, Device{Tag: fmt.Sprintf("%064x", i+1), Blocks: uint64(blocks)})
	}
	return f
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	for i := n &^ 7; i < n; i++ {
		b[i] = byte(r.Uint32())
	}
	return b
}
