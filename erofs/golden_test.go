package erofs

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden is a tree with one inode of every type and layout.
func golden() *fixture {
	f := newFixture(nil, 0)
	f.opts.VolumeName = "golden"
	f.opts.BuildTimeNsec = 5
	f.opts.Devices = []Device{{Tag: strings.Repeat("ab", 32), Blocks: 300}, {Tag: "second", Blocks: 4}}
	f.devices = [][]byte{nil, []byte("second device")}
	hello := &Inode{Mode: unix.S_IFREG | 0o4755, UID: 100000, Mtime: -1, MtimeNsec: 999999999, Size: 5, Inline: f.addInline([]byte("hello"))}
	capNetRaw := append([]byte{1, 0, 0, 2, 0, 0x20}, make([]byte, 14)...) // struct vfs_cap_data, version 2
	f.root.Xattrs = []Xattr{{"user.b", []byte("2")}, {"user.a", nil}, {"security.capability", capNetRaw}, {"trusted.overlay.opaque", []byte("y")}}
	f.root.Entries = []Dirent{
		{"zero", &Inode{Mode: unix.S_IFREG | 0o600}},
		{"hello", hello},
		{"hard link", hello},
		{"!before dot", &Inode{Mode: unix.S_IFLNK | 0o777, Target: "dir/inner"}},
		{"absolute", &Inode{Mode: unix.S_IFLNK | 0o777, Target: "/dir/../../hello"}},
		{"loop", &Inode{Mode: unix.S_IFLNK | 0o777, Target: "loop"}},
		{"dangling", &Inode{Mode: unix.S_IFLNK | 0o777, Target: "nowhere"}},
		{"dir", &Inode{Mode: unix.S_IFDIR | 0o1777, Entries: []Dirent{{"inner", &Inode{Mode: unix.S_IFREG, Size: 13, Extents: []Extent{{Len: 13, Device: 2}}}}}}},
		{"null", &Inode{Mode: unix.S_IFCHR | 0o666, Rdev: MakeRdev(1, 3)}},
		{"disk", &Inode{Mode: unix.S_IFBLK | 0o660, Rdev: MakeRdev(259, 70000)}},
		{"fifo", &Inode{Mode: unix.S_IFIFO}},
		{"socket", &Inode{Mode: unix.S_IFSOCK}},
		{"sparse", &Inode{Mode: unix.S_IFREG, Size: 5<<20 + 1, Extents: []Extent{{Off: 1 << 20, Len: 1 << 20, Device: 1, Block: 7}, {Off: 5 << 20, Len: 1, Device: 1, Block: 299}}}},
	}
	return f
}

// The bytes of an image may change only on purpose: digests of published artifacts depend on them.
func TestGoldenImage(t *testing.T) {
	const file = "testdata/golden.erofs"
	image, _ := golden().build(t)
	if *update {
		if err := os.WriteFile(file, image, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image, want) {
		t.Errorf("the image differs from %s: if that is meant, run go test -update and say why in the commit", file)
	}
	check(t, golden())
}

func TestFSKeepsTheContractOfIOFS(t *testing.T) {
	f := golden()
	f.root.Entries = slices.DeleteFunc(f.root.Entries, func(e Dirent) bool {
		// TestFS reads every file, byte by byte.
		return e.Name == "loop" || e.Name == "dangling" || e.Name == "sparse" || fileType(e.Inode.Mode) >= 3 && fileType(e.Inode.Mode) <= 6
	})
	image, _ := f.build(t)
	if err := fstest.TestFS(f.open(t, image), "hello", "dir/inner", "!before dot"); err != nil {
		t.Error(err)
	}
}

func TestSymbolicLinksStayInsideTheImage(t *testing.T) {
	f := golden()
	image, _ := f.build(t)
	fsys := f.open(t, image)
	for name, want := range map[string]string{"absolute": "hello", "!before dot": "second device", "hard link": "hello"} {
		if b, err := fs.ReadFile(fsys, name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	for name, want := range map[string]error{
		"loop": unix.ELOOP, "dangling": fs.ErrNotExist, "hello/x": unix.ENOTDIR, "nothing": fs.ErrNotExist,
		"../hello": fs.ErrInvalid, "/hello": fs.ErrInvalid, "": fs.ErrInvalid, "dir/": fs.ErrInvalid,
	} {
		if _, err := fsys.Open(name); !errors.Is(err, want) {
			t.Errorf("open %q: %v, want %v", name, err, want)
		}
	}
	if _, err := fsys.ReadLink("hello"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("readlink of a file: %v", err)
	}
	if _, err := fsys.Extents("dir"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("extents of a directory: %v", err)
	}
}

func TestConcurrentReaders(t *testing.T) {
	f := randomTree(rand.New(rand.NewPCG(8, 8)), 200, 0, 100)
	image, _ := f.build(t)
	fsys := f.open(t, image)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { compare(t, f, fsView{fsys}) })
	}
	all.Wait()
}
