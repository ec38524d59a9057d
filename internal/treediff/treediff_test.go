package treediff_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/treediff"
)

// memory is an io.WriterAt.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// build writes a tree whose files may lie on the given devices, in units of blocks.
func build(t *testing.T, root *erofs.Inode, inline string, devices ...io.ReaderAt) *erofs.FS {
	t.Helper()
	var m memory
	o := erofs.WriteOptions{InlineData: strings.NewReader(inline)}
	for i := range devices {
		o.Devices = append(o.Devices, erofs.Device{Tag: fmt.Sprint("device ", i), Blocks: 1 << 20})
	}
	stats, err := erofs.Write(&m, root, o)
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(bytes.NewReader(m.b), stats.Size, devices...)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

func dir(entries ...erofs.Dirent) *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: entries}
}

// inline is a file whose data are n bytes at off of the inline data.
func inline(off, n int) *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: int64(n), Inline: erofs.Inline{Off: int64(off), Len: n}}
}

// lines compares and writes each difference as a line.
func lines(t *testing.T, a, b *erofs.FS, o treediff.Options) []string {
	t.Helper()
	var list []string
	err := treediff.Compare(t.Context(), a, b, o, func(d treediff.Difference) error {
		s := fmt.Sprintf("%s %q", d.Kind, d.Path)
		for _, x := range d.Attrs {
			s += fmt.Sprintf(" %s:%s:%s", x.Name, x.A, x.B)
		}
		if d.Err != nil {
			s += " " + d.Err.Error()
		}
		list = append(list, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEveryKindOfDifferenceIsSeen(t *testing.T) {
	const data = "hellohallo"
	base := func() map[string]*erofs.Inode {
		dev := &erofs.Inode{Mode: unix.S_IFCHR | 0o600, Rdev: erofs.MakeRdev(1, 3)}
		return map[string]*erofs.Inode{"file": inline(0, 5), "link": {Mode: unix.S_IFLNK | 0o777, Target: "x"}, "dev": dev, "dir": dir()}
	}
	tree := func(files map[string]*erofs.Inode) *erofs.FS {
		root := dir()
		for name, n := range files {
			root.Entries = append(root.Entries, erofs.Dirent{Name: name, Inode: n})
		}
		return build(t, root, data)
	}
	for want, change := range map[string]func(map[string]*erofs.Inode){
		"": func(map[string]*erofs.Inode) {},
		`changed "file" content:-:differs from byte 1 on`:                         func(m map[string]*erofs.Inode) { m["file"].Inline.Off = 5 },
		`changed "file" size:5:4`:                                                 func(m map[string]*erofs.Inode) { m["file"].Size, m["file"].Inline.Len = 4, 4 },
		`changed "file" mode:0644:4755`:                                           func(m map[string]*erofs.Inode) { m["file"].Mode = unix.S_IFREG | 0o4755 },
		`changed "file" owner:0:0:70000:1`:                                        func(m map[string]*erofs.Inode) { m["file"].UID, m["file"].GID = 70000, 1 },
		`changed "dir" mtime:1970-01-01T00:00:00Z:1969-12-31T23:59:59.000000005Z`: func(m map[string]*erofs.Inode) { m["dir"].Mtime, m["dir"].MtimeNsec = -1, 5 },
		`changed "dev" device:1,3:1,5`:                                            func(m map[string]*erofs.Inode) { m["dev"].Rdev = erofs.MakeRdev(1, 5) },
		`changed "dev" type:character device:block device`:                        func(m map[string]*erofs.Inode) { m["dev"].Mode = unix.S_IFBLK | 0o600 },
		`changed "link" target:"x":"y"`:                                           func(m map[string]*erofs.Inode) { m["link"].Target = "y" },
		`changed "file" xattr user.a:-:"v"`: func(m map[string]*erofs.Inode) {
			m["file"].Xattrs = []erofs.Xattr{{Name: "user.a", Value: []byte("v")}}
		},
		`removed "dir"`:             func(m map[string]*erofs.Inode) { delete(m, "dir") },
		`added "new"|added "new/x"`: func(m map[string]*erofs.Inode) { m["new"] = dir(erofs.Dirent{Name: "x", Inode: inline(0, 0)}) },
	} {
		changed := base()
		change(changed)
		if got := strings.Join(lines(t, tree(base()), tree(changed), treediff.Options{}), "|"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestHardLinksAreComparedAsGroups(t *testing.T) {
	const data = "hello"
	one, two := inline(0, 5), inline(0, 5)
	a := build(t, dir(erofs.Dirent{Name: "a", Inode: one}, erofs.Dirent{Name: "b", Inode: one}, erofs.Dirent{Name: "c", Inode: one}), data)
	b := build(t, dir(erofs.Dirent{Name: "a", Inode: two}, erofs.Dirent{Name: "b", Inode: two}, erofs.Dirent{Name: "c", Inode: inline(0, 5)}), data)
	if got := lines(t, a, b, treediff.Options{}); !slices.Equal(got, []string{`changed "c" links:"a":-`}) {
		t.Errorf("got %q", got)
	}
	if got := lines(t, a, b, treediff.Options{Ignore: map[string]bool{"links": true}}); len(got) > 0 {
		t.Errorf("ignoring links: got %q", got)
	}
}

func TestOrderIsThatOfAVisit(t *testing.T) {
	empty := func() *erofs.Inode { return inline(0, 0) }
	a := build(t, dir(), "")
	b := build(t, dir(
		erofs.Dirent{Name: "a", Inode: dir(erofs.Dirent{Name: "z", Inode: empty()})},
		erofs.Dirent{Name: "a!", Inode: empty()}, // sorts before "a/z" as bytes
		erofs.Dirent{Name: "a0", Inode: empty()},
	), "")
	want := []string{`added "a"`, `added "a/z"`, `added "a!"`, `added "a0"`}
	if got := lines(t, a, b, treediff.Options{}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := lines(t, b, b, treediff.Options{}); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// unreadable is a device of which nothing can be read.
type unreadable struct{}

var errUnreadable = errors.New("cannot be read")

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errUnreadable }

// TestWhatCannotBeReadIsNeitherAddedNorRemoved has a file whose inode is broken in one of the trees.
func TestWhatCannotBeReadIsNeitherAddedNorRemoved(t *testing.T) {
	var m memory
	stats, err := erofs.Write(&m, dir(erofs.Dirent{Name: "bad", Inode: inline(0, 0)}, erofs.Dirent{Name: "good", Inode: inline(0, 0)}), erofs.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.b[1024+8] &^= 1 // no checksum
	open := func() *erofs.FS {
		fsys, err := erofs.Open(bytes.NewReader(bytes.Clone(m.b)), stats.Size)
		if err != nil {
			t.Fatal(err)
		}
		return fsys
	}
	whole := open()
	bad, err := whole.Find("bad", false)
	if err != nil {
		t.Fatal(err)
	}
	start := int(binary.LittleEndian.Uint32(m.b[1024+40:])) * erofs.BlockSize
	binary.LittleEndian.PutUint16(m.b[start+int(bad.Stat().Ino)*32+4:], 0) // i_mode
	broken := open()
	for tree, got := range map[string][]string{"first": lines(t, broken, whole, treediff.Options{}), "second": lines(t, whole, broken, treediff.Options{})} {
		if len(got) != 1 || !strings.HasPrefix(got[0], `changed "bad" `+tree+" tree: ") {
			t.Errorf("broken in the %s tree: %q", tree, got)
		}
	}
}

// onDevice is a file of whole blocks on device 1 with holes around them.
func onDevice(block uint64, size int64) *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: size, Extents: []erofs.Extent{{Off: 8192, Len: size - 16384, Device: 1, Block: block}}}
}

func TestSharedBlobsAndHolesAreNotRead(t *testing.T) {
	tree := func(block uint64, size int64) *erofs.FS {
		return build(t, dir(erofs.Dirent{Name: "f", Inode: onDevice(block, size)}), "", unreadable{})
	}
	same := treediff.Options{SameBlob: func(a, b uint16) bool { return a == 1 && b == 1 }}
	if got := lines(t, tree(7, 1<<30), tree(7, 1<<30), same); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	for _, o := range []treediff.Options{{}, {SameBlob: func(uint16, uint16) bool { return false }}} {
		if got := lines(t, tree(7, 1<<20), tree(7, 1<<20), o); len(got) != 1 || !strings.Contains(got[0], "first tree: ") || !strings.Contains(got[0], errUnreadable.Error()) {
			t.Errorf("got %q, want that the file cannot be read", got)
		}
	}
	if got := lines(t, tree(7, 1<<20), tree(8, 1<<20), same); len(got) != 1 {
		t.Errorf("other blocks of the same blob: got %q", got)
	}
	holes := func() *erofs.FS {
		return build(t, dir(erofs.Dirent{Name: "f", Inode: &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: 1 << 50}}), "")
	}
	if got := lines(t, holes(), holes(), treediff.Options{}); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

func TestZerosEqualHolesAndOneByteDiffers(t *testing.T) {
	const size = 3 << 20
	device := make([]byte, size)
	file := func() *erofs.Inode {
		return &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: size, Extents: []erofs.Extent{{Len: size, Device: 1}}}
	}
	stored := func() *erofs.FS {
		return build(t, dir(erofs.Dirent{Name: "f", Inode: file()}), "", bytes.NewReader(device))
	}
	hole := build(t, dir(erofs.Dirent{Name: "f", Inode: &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: size}}), "")
	if got := lines(t, stored(), hole, treediff.Options{}); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	at := rand.IntN(size)
	device[at] = 1
	if got, want := lines(t, stored(), hole, treediff.Options{}), fmt.Sprintf(`changed "f" content:-:differs from byte %d on`, at); len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %s", got, want)
	}
}

func TestCompareEndsWhenNobodyListens(t *testing.T) {
	root := dir()
	for i := range 5000 {
		root.Entries = append(root.Entries, erofs.Dirent{Name: fmt.Sprint(i), Inode: inline(0, 0)})
	}
	full, empty := build(t, root, ""), build(t, dir(), "")
	errFull := errors.New("disk full")
	if err := treediff.Compare(t.Context(), full, empty, treediff.Options{}, func(treediff.Difference) error { return errFull }); !errors.Is(err, errFull) {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	errStop := errors.New("interrupted")
	err := treediff.Compare(ctx, full, empty, treediff.Options{}, func(treediff.Difference) error { cancel(errStop); return nil })
	if !errors.Is(err, errStop) {
		t.Errorf("error is %v", err)
	}
}
