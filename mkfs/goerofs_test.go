package mkfs

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

func TestIndependentReaderSeesTheSource(t *testing.T) {
	for name, source := range sources(t) {
		t.Run(name, func(t *testing.T) {
			device := filepath.Join(t.TempDir(), "data")
			for _, o := range []ImageOptions{{}, {BlobDev: device}} {
				if o.BlobDev == "" && !strings.HasPrefix(name, "random") {
					continue // large trees once: that is where all kinds of layouts meet
				}
				path, _ := makeImage(t, dirOf(source), o)
				image := open(t, path)
				var opts []goerofs.OpenOpt
				if o.BlobDev != "" {
					opts = append(opts, goerofs.WithExtraDevices(open(t, device)))
				}
				fsys, err := goerofs.Open(image, opts...)
				if err != nil {
					t.Fatal(err)
				}
				sameAsOnDisk(t, source, fsys)
			}
		})
	}
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// comparison holds a source on disk against what go-erofs reads.
type comparison struct {
	t      *testing.T
	source string
	fsys   fs.FS
	inodes map[uint64]int64 // of the source, and what they are in the image
	taken  map[int64]uint64 // the other way round
}

// sameAsOnDisk compares all that go-erofs shows. It opens only names that are valid in io/fs; of others it shows that they are there.
func sameAsOnDisk(t *testing.T, source string, fsys fs.FS) {
	t.Helper()
	c := &comparison{t: t, source: source, fsys: fsys, inodes: map[uint64]int64{}, taken: map[int64]uint64{}}
	seen := 0
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil || !fs.ValidPath(rel) {
			return err
		}
		seen++
		c.node(path, rel)
		if d.IsDir() {
			c.entries(path, rel)
		}
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("compared %d files: %v", seen, err)
	}
}

// entries compares the names in a directory.
func (c *comparison) entries(path, rel string) {
	c.t.Helper()
	names := func(entries []fs.DirEntry, err error) (all []string) {
		if err != nil {
			c.t.Errorf("list %q: %v", rel, err)
		}
		for _, e := range entries {
			if e.Type()&fs.ModeSocket == 0 {
				all = append(all, e.Name())
			}
		}
		return all
	}
	if got, want := names(fs.ReadDir(c.fsys, rel)), names(os.ReadDir(path)); !slices.Equal(got, want) {
		c.t.Errorf("%q has %q, want %q", rel, got, want)
	}
}

func (c *comparison) node(path, rel string) {
	c.t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		c.t.Fatal(err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return
	}
	disk, err := os.Lstat(path)
	if err != nil {
		c.t.Fatal(err)
	}
	info, err := fs.Lstat(c.fsys, rel)
	if err != nil {
		c.t.Errorf("%q: %v", rel, err)
		return
	}
	got := info.Sys().(*goerofs.Stat)
	if got.UID != st.Uid || got.GID != st.Gid || info.ModTime().Unix() != st.Mtim.Sec || int64(info.ModTime().Nanosecond()) != st.Mtim.Nsec {
		c.t.Errorf("%q: owner %d:%d, time %v", rel, got.UID, got.GID, info.ModTime())
	}
	if got.Mode != disk.Mode() {
		c.t.Errorf("%q: mode %v, want %v", rel, got.Mode, disk.Mode())
	}
	attrs := map[string]string{}
	for name, value := range got.Xattrs {
		attrs[strings.TrimSuffix(name, ".")] = value // go-erofs v0.3.1 puts a dot behind the names of ACLs
	}
	if want := xattrsOnDisk(c.t, path); !maps.Equal(attrs, want) {
		c.t.Errorf("%q: attributes %q, want %q", rel, attrs, want)
	}
	switch {
	case disk.Mode().IsRegular():
		c.content(path, rel)
	case disk.Mode()&fs.ModeDevice != 0:
		if want := erofs.MakeRdev(unix.Major(st.Rdev), unix.Minor(st.Rdev)); got.Rdev != want {
			c.t.Errorf("%q: device %#x, want %#x", rel, got.Rdev, want)
		}
	case disk.Mode()&fs.ModeSymlink != 0:
		want, err := os.Readlink(path)
		if err != nil {
			c.t.Fatal(err)
		}
		if target, err := fs.ReadLink(c.fsys, rel); err != nil || target != want {
			c.t.Errorf("%q leads to %q, want %q (%v)", rel, target, want, err)
		}
	}
	c.links(&st, got, rel)
}

// links checks that names of one inode, and only they, are names of one inode in the image.
func (c *comparison) links(st *unix.Stat_t, got *goerofs.Stat, rel string) {
	c.t.Helper()
	if st.Mode&unix.S_IFMT == unix.S_IFDIR { // what its links are differs between file systems
		return
	}
	if uint64(got.Nlink) != uint64(st.Nlink) {
		c.t.Errorf("%q has %d links, want %d", rel, got.Nlink, st.Nlink)
	}
	if ino, ok := c.inodes[st.Ino]; ok && ino != got.Ino {
		c.t.Errorf("%q is inode %d, its other name %d", rel, got.Ino, ino)
	}
	if ino, ok := c.taken[got.Ino]; ok && ino != st.Ino {
		c.t.Errorf("%q shares inode %d with another file", rel, got.Ino)
	}
	c.inodes[st.Ino], c.taken[got.Ino] = got.Ino, st.Ino
}

func (c *comparison) content(path, rel string) {
	c.t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	if data, err := fs.ReadFile(c.fsys, rel); err != nil || !bytes.Equal(data, want) {
		c.t.Errorf("%q: content differs in %d bytes, want %d (%v)", rel, len(data), len(want), err)
	}
}

// xattrsOnDisk lists the extended attributes that EROFS can have.
func xattrsOnDisk(t *testing.T, path string) map[string]string {
	t.Helper()
	names, value := make([]byte, 64<<10), make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, names)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal(err)
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:max(n, 0)]), "\x00"), "\x00") {
		if !storableXattr(name) {
			continue
		}
		m, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(value[:m])
	}
	return all
}
