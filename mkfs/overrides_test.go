package mkfs

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/require"
)

// inodeOf returns the attributes of a file in an image.
func inodeOf(t *testing.T, image, name string) (*erofs.Stat, []erofs.Xattr) {
	t.Helper()
	f := open(t, image)
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	st, err := fsys.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	xattrs, err := fsys.Xattrs(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*erofs.Stat), xattrs
}

// linkedSource makes a directory with a file that has two names.
func linkedSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "a")
	if err := errors.Join(os.WriteFile(name, bytes.Repeat([]byte("data"), 5000), 0o644), os.Link(name, filepath.Join(dir, "b"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOwnersAreMovedOnceForEachInode(t *testing.T) {
	source := linkedSource(t)
	uid := uint32(1000)
	image, _ := makeImage(t, dirOf(source), ImageOptions{Overrides: Overrides{UID: &uid, UIDOffset: 100_000, GIDOffset: 7}})
	for _, name := range []string{"a", "b"} {
		if st, _ := inodeOf(t, image, name); st.UID != 101_000 || st.GID != uint32(os.Getgid())+7 || st.Nlink != 2 {
			t.Errorf("%s: %+v", name, st)
		}
	}
	large := uint32(math.MaxUint32)
	_, err := WriteImage(t.Context(), filepath.Join(t.TempDir(), "image"), dirOf(source), ImageOptions{Overrides: Overrides{GID: &large, GIDOffset: 1}})
	if !errors.Is(err, errID) {
		t.Errorf("a group behind the last one: %v", err)
	}
}

func TestFurtherNamesBecomeFilesThatShareTheirData(t *testing.T) {
	source := linkedSource(t)
	image, stats := makeImage(t, dirOf(source), ImageOptions{Overrides: Overrides{NoLinks: true}})
	a, _ := inodeOf(t, image, "a")
	b, _ := inodeOf(t, image, "b")
	if a.Ino == b.Ino || a.Nlink != 1 || b.Nlink != 1 || stats.Data.Appended+stats.Data.Inlined != 20_000 {
		t.Errorf("%+v, %+v, %+v", a, b, stats.Data)
	}
	accepted(t, image, "", stats)
}

func TestWhiteoutsOfOverlayfsCanBeLeftOut(t *testing.T) {
	require.Root(t)
	source := t.TempDir()
	dir := filepath.Join(source, "dir")
	err := errors.Join(os.Mkdir(dir, 0o755), unix.Mknod(filepath.Join(dir, "gone"), unix.S_IFCHR, 0), unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR, int(unix.Mkdev(1, 3))),
		unix.Setxattr(dir, opaqueXattr, []byte("y"), 0), unix.Setxattr(dir, "trusted.other", []byte("y"), 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, strip := range []bool{false, true} {
		image, _ := makeImage(t, dirOf(source), ImageOptions{Overrides: Overrides{NoMarkers: strip}})
		f := open(t, image)
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		fsys, err := erofs.Open(f, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		entries, err := fsys.ReadDir("dir")
		if err != nil {
			t.Fatal(err)
		}
		_, xattrs := inodeOf(t, image, "dir")
		opaque := slices.ContainsFunc(xattrs, func(x erofs.Xattr) bool { return x.Name == opaqueXattr })
		if want := map[bool]int{false: 2, true: 1}[strip]; len(entries) != want || opaque == strip || len(xattrs) != want {
			t.Errorf("left out %t: %v, %v", strip, entries, xattrs)
		}
	}
}

func TestTheLastLineThatMatchesGivesTheLabelAndExactOnesGoFirst(t *testing.T) {
	labels, err := ReadFileContexts(strings.NewReader("# comment\n\n/exact a\n/.* b\n/dir(/.*)? -d c\n/none <<none>>\n/dir/.*\\.so(\\.[[:digit:]]+)? -- d\n/plus\\+ e\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path  string
		mode  uint32
		label string
	}{
		{"/exact", unix.S_IFREG, "a"},
		{"/exactly", unix.S_IFREG, "b"},
		{"/", unix.S_IFDIR, "b"},
		{"/dir", unix.S_IFDIR, "c"},
		{"/dir", unix.S_IFREG, "b"},
		{"/dir/x.so.12", unix.S_IFREG, "d"},
		{"/dir/x.so.12", unix.S_IFLNK, "b"},
		{"/dir/x\ny.so", unix.S_IFREG, "d"},
		{"/none", unix.S_IFREG, ""},
		{"/plus+", unix.S_IFIFO, "e"},
		{"elsewhere", unix.S_IFREG, ""},
	} {
		if label, ok := labels.Label(tc.path, tc.mode); label != tc.label || ok != (tc.label != "") {
			t.Errorf("%q, mode %#o: %q, %t; want %q", tc.path, tc.mode, label, ok, tc.label)
		}
	}
	for _, bad := range []string{"/a", "/a -- b c", "/a -x b", "/( b", "/(?=a) b"} {
		if _, err := ReadFileContexts(strings.NewReader("/.* ok\n" + bad)); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzFileContexts(f *testing.F) {
	f.Add("/dir(/.*)? -d label\n", "/dir/x")
	f.Add("/none <<none>>\n/.* x", "/none")
	f.Fuzz(func(t *testing.T, data, path string) {
		labels, err := ReadFileContexts(strings.NewReader(data))
		if err != nil {
			return
		}
		if label, ok := labels.Label(path, unix.S_IFREG); ok == (label == "") {
			t.Errorf("label %q, %t", label, ok)
		}
	})
}
