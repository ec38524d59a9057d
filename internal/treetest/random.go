package treetest

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// oddNames are names that break careless sorting, quoting or path handling.
var oddNames = []string{
	"!x", "+", "-a", "..a", "...", ".hidden", " ", "a b", "new\nline", "tab\t", `back\slash`, "\xff\xfe", "\x01", "ä", "*", "~", "a.", "A", "a", "aa",
	".whx", "%s", strings.Repeat("n", 255), strings.Repeat("m", 254), strings.Repeat("é", 127),
}

// sizes lie around the borders that matter: inline limits, blocks, frames.
var sizes = []int64{0, 1, 2, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 3000, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 8193,
	12000, 65535, 65536, 65537, 100_000, 131072, 131073, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3 << 20}

// maxEntries keeps a random tree small enough for unit tests, smallEntries lets a thousand of them be.
const (
	maxEntries   = 1200
	smallEntries = 40
)

// Random fills dir with a tree that depends on seed alone: nested directories, odd names, files of sizes around block borders, equal
// files, sparse files, symbolic and hard links, pipes, extended attributes, ACLs, old and new times; as root also owners above 65535,
// devices and the attributes of the trusted and security namespaces. It takes some 20 MiB and well below a second.
func Random(t testing.TB, dir string, seed int64) {
	t.Helper()
	random(t, dir, seed, maxEntries, sizes)
}

// Small is [Random] with some 40 entries and files of up to 130 KiB: for tests that want many trees.
func Small(t testing.TB, dir string, seed int64) {
	t.Helper()
	random(t, dir, seed, smallEntries, sizes[:slices.Index(sizes, 1<<20-1)])
}

func random(t testing.TB, dir string, seed int64, entries int, sizes []int64) {
	t.Helper()
	g := &generator{t: t, rnd: rand.New(rand.NewSource(seed)), root: os.Geteuid() == 0, left: entries, sizes: sizes}
	g.dir(dir, 0)
	g.attributes(dir)
}

type generator struct {
	t     testing.TB
	rnd   *rand.Rand
	root  bool
	files []string // regular files so far, for hard links and copies
	left  int      // entries that may still be made
	sizes []int64  // of files
}

func (g *generator) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatalf("make random tree: %v", err)
	}
}

// dir fills a directory that exists.
func (g *generator) dir(dir string, depth int) {
	count := 8 + g.rnd.Intn(16)
	if g.rnd.Intn(12) == 0 {
		count = 400 // more than one directory block
	}
	for i := range count {
		if g.left--; g.left < 0 {
			return
		}
		name := fmt.Sprintf("f%d-%d", i, g.rnd.Intn(1000))
		if g.rnd.Intn(4) == 0 {
			name = oddNames[g.rnd.Intn(len(oddNames))]
		}
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		g.entry(path, depth)
	}
}

func (g *generator) entry(path string, depth int) {
	switch k := g.rnd.Intn(20); {
	case k < 3 && depth < 4:
		g.must(os.Mkdir(path, 0o755))
		g.dir(path, depth+1)
	case k < 5:
		g.must(os.Symlink(g.target(), path))
	case k < 6 && len(g.files) > 0:
		g.must(os.Link(g.files[g.rnd.Intn(len(g.files))], path))
		return
	case k < 7:
		g.special(path)
	case k < 8:
		g.sparse(path)
	case k < 9 && len(g.files) > 0:
		data, err := os.ReadFile(g.files[g.rnd.Intn(len(g.files))])
		g.must(err)
		g.must(os.WriteFile(path, data, 0o644))
		g.files = append(g.files, path)
	default:
		size := g.sizes[g.rnd.Intn(len(g.sizes))]
		if size > 100_000 && g.rnd.Intn(4) != 0 {
			size = g.rnd.Int63n(20_000)
		}
		data := make([]byte, size)
		g.rnd.Read(data)
		g.must(os.WriteFile(path, data, 0o644))
		g.files = append(g.files, path)
	}
	g.attributes(path)
}

func (g *generator) target() string {
	switch g.rnd.Intn(5) {
	case 0:
		return strings.Repeat("t/", 2047) // 4094 bytes, the longest but one
	case 1:
		return "../" + oddNames[g.rnd.Intn(len(oddNames))]
	case 2:
		return "/absolute/nowhere"
	default:
		return fmt.Sprintf("rel-%d", g.rnd.Intn(100))
	}
}

func (g *generator) special(path string) {
	mode, dev := uint32(unix.S_IFIFO|0o600), uint64(0)
	if g.root {
		switch g.rnd.Intn(3) {
		case 0:
			mode, dev = unix.S_IFCHR|0o666, unix.Mkdev(uint32(g.rnd.Intn(4096)), uint32(g.rnd.Intn(1<<20)))
		case 1:
			mode, dev = unix.S_IFBLK|0o660, unix.Mkdev(8, uint32(g.rnd.Intn(300)))
		}
	}
	g.must(unix.Mknod(path, mode, int(dev)))
}

// sparse writes up to four runs of data, block aligned or not, into a file that is otherwise a hole.
func (g *generator) sparse(path string) {
	f, err := os.Create(path)
	g.must(err)
	size := int64(1+g.rnd.Intn(64))*8192 + int64(g.rnd.Intn(2))*int64(g.rnd.Intn(4096))
	g.must(f.Truncate(size))
	for range g.rnd.Intn(5) {
		off := g.rnd.Int63n(size)
		if g.rnd.Intn(2) == 0 {
			off &^= 4095
		}
		data := make([]byte, min(size-off, g.rnd.Int63n(20_000)+1))
		g.rnd.Read(data)
		_, err := f.WriteAt(data, off)
		g.must(err)
	}
	g.must(f.Close())
}

// attributes sets owner, permissions, extended attributes and, last, the time.
func (g *generator) attributes(path string) {
	var st unix.Stat_t
	g.must(unix.Lstat(path, &st))
	kind := st.Mode & unix.S_IFMT
	if g.root && g.rnd.Intn(3) == 0 {
		g.must(os.Lchown(path, g.rnd.Intn(200_000), g.rnd.Intn(200_000)))
	}
	if kind != unix.S_IFLNK {
		modes := []uint32{0o644, 0o755, 0o600, 0, 0o4755, 0o2755, 0o1777, 0o7777}
		if kind == unix.S_IFDIR && !g.root {
			modes = modes[1:2] // others would lock the caller out
		}
		g.must(unix.Chmod(path, modes[g.rnd.Intn(len(modes))]))
		if g.root || (kind == unix.S_IFREG && st.Mode&0o200 != 0) {
			g.xattrs(path, kind)
		}
	}
	times := []int64{0, 1, -1, -86400 * 365, 1 << 31, 1<<31 - 1, 1_700_000_000, 4_000_000_000}
	ts := unix.Timespec{Sec: times[g.rnd.Intn(len(times))], Nsec: int64(g.rnd.Intn(2)) * int64(g.rnd.Intn(1_000_000_000))}
	g.must(unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

func (g *generator) xattrs(path string, kind uint32) {
	set := func(name string, value []byte) {
		g.must(unix.Lsetxattr(path, name, value, 0))
	}
	value := make([]byte, g.rnd.Intn(300))
	g.rnd.Read(value)
	if (kind == unix.S_IFREG || kind == unix.S_IFDIR) && g.rnd.Intn(4) == 0 {
		set("user.x", value)
		set("user.empty", nil)
	}
	if !g.root {
		return
	}
	switch g.rnd.Intn(10) {
	case 0:
		set("trusted.t"+strings.Repeat("r", g.rnd.Intn(200)), value)
	case 1:
		if kind == unix.S_IFREG {
			set("security.capability", []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		}
	case 2:
		set("system.posix_acl_access", acl(uint32(g.rnd.Intn(100_000))))
	case 3:
		if kind == unix.S_IFDIR {
			set("system.posix_acl_default", acl(uint32(g.rnd.Intn(100_000))))
		}
	}
}

// acl encodes "u::rwx,u:UID:r-x,g::r-x,m::rwx,o::---" in the form of setxattr(2): version 2, then {tag, permissions, id} each.
func acl(uid uint32) []byte {
	const none = 0xffffffff
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, none}, {0x02, 5, uid}, {0x04, 5, none}, {0x10, 7, none}, {0x20, 0, none}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}
