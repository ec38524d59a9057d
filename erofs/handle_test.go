package erofs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"
)

// handleImage has a directory with a file, a hard link of it, and symbolic links to both.
func handleImage(t *testing.T) *FS {
	t.Helper()
	file := &Inode{Mode: unix.S_IFREG | 0o644, Size: 5, Inline: Inline{Len: 5}, Xattrs: []Xattr{{Name: "user.a", Value: []byte("1")}}}
	dir := &Inode{Mode: unix.S_IFDIR | 0o755, Entries: []Dirent{{"file", file}, {"hard", file}}}
	root := &Inode{Mode: unix.S_IFDIR | 0o755, Entries: []Dirent{
		{"dir", dir},
		{"link", &Inode{Mode: unix.S_IFLNK | 0o777, Target: "dir"}},
		{"loop", &Inode{Mode: unix.S_IFLNK | 0o777, Target: "/loop"}},
	}}
	var img memory
	stats, err := Write(&img, root, WriteOptions{InlineData: bytes.NewReader([]byte("hello"))})
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := Open(bytes.NewReader(img.b), stats.Size)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// memory is an io.WriterAt.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func TestFindWalksLikeTheKernel(t *testing.T) {
	fsys := handleImage(t)
	for _, c := range []struct {
		path   string
		follow bool
		mode   uint32 // type bits of what is found
		err    error
	}{
		{"", false, unix.S_IFDIR, nil},
		{"/", false, unix.S_IFDIR, nil},
		{"//dir//file", false, unix.S_IFREG, nil},
		{"dir/../link", false, unix.S_IFLNK, nil},
		{"link", true, unix.S_IFDIR, nil},
		{"link/", false, unix.S_IFDIR, nil},
		{"link/../../dir/./file", false, unix.S_IFREG, nil},
		{"dir/file/", false, 0, unix.ENOTDIR},
		{"dir/file/..", false, 0, unix.ENOTDIR},
		{"loop", true, 0, unix.ELOOP},
		{"none", false, 0, fs.ErrNotExist},
	} {
		h, err := fsys.Find(c.path, c.follow)
		if !errors.Is(err, c.err) {
			t.Errorf("%q: error is %v, want %v", c.path, err, c.err)
		} else if err == nil && h.Stat().Mode&unix.S_IFMT != c.mode {
			t.Errorf("%q: mode is %#o, want type %#o", c.path, h.Stat().Mode, c.mode)
		}
	}
}

func TestHandlesShowWhatPathsShow(t *testing.T) {
	fsys := handleImage(t)
	root, err := fsys.Root()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := root.Entries()
	if err != nil || len(entries) != 3 || entries[0].Name != "dir" || entries[1].Type != unix.S_IFLNK {
		t.Fatalf("entries are %+v: %v", entries, err)
	}
	dir, err := entries[0].Handle()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", ".."} {
		e, err := dir.Lookup(name)
		if want := map[string]uint64{".": dir.Stat().Ino, "..": root.Stat().Ino}[name]; err != nil || e.Ino != want {
			t.Errorf("%q leads to %d, want %d: %v", name, e.Ino, want, err)
		}
	}
	file, err := fsys.Find("dir/hard", false)
	if err != nil {
		t.Fatal(err)
	}
	if st := file.Stat(); st.Nlink != 2 || st.Size != 5 {
		t.Errorf("attributes are %+v", st)
	}
	if xattrs, err := file.Xattrs(); err != nil || len(xattrs) != 1 || xattrs[0].Name != "user.a" {
		t.Errorf("xattrs are %+v: %v", xattrs, err)
	}
	if b, err := io.ReadAll(io.NewSectionReader(file, 0, 100)); err != nil || string(b) != "hello" {
		t.Errorf("content is %q: %v", b, err)
	}
	link, err := entries[1].Handle()
	if target, targetErr := link.Target(); err != nil || targetErr != nil || target != "dir" {
		t.Errorf("target is %q: %v, %v", target, err, targetErr)
	}
	_, entriesErr := link.Entries()
	_, lookupErr := link.Lookup(".")
	_, extentsErr := dir.Extents()
	_, readErr := dir.ReadAt(make([]byte, 1), 0)
	_, targetErr := file.Target()
	for i, err := range []error{entriesErr, lookupErr, extentsErr, readErr, targetErr} {
		if err == nil {
			t.Errorf("call %d on a file of another type succeeds", i)
		}
	}
}
