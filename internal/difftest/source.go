package difftest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/treetest"
)

const (
	maxReported = 20
	maxContent  = 1 << 30 // longer files, which are nearly all hole, are left to the kernel's comparison
	bufferSize  = 1 << 20
)

// source is a directory that was read, to be held against readers.
type source struct {
	dir   string
	o     treetest.Options
	paths []string // all that io/fs can name, in the order of a walk
	nodes map[string]attributes
	names map[string][]string // of directories, sorted
	links map[uint64]uint32   // names of each inode that is no directory
}

// describe reads the names and attributes below dir. The number of links of a directory is 2 and one for each directory in it, that of
// anything else the number of its names below dir.
func describe(t testing.TB, dir string, o treetest.Options) *source {
	t.Helper()
	s := &source{dir: dir, o: o, nodes: map[string]attributes{}, names: map[string][]string{}, links: map[uint64]uint32{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return s.add(path, rel)
	})
	if err != nil {
		t.Fatalf("read %s: %v", dir, err)
	}
	return s
}

func (s *source) add(path, rel string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFSOCK {
		return nil
	}
	parent := filepath.Dir(rel)
	if rel != "." {
		s.names[parent] = append(s.names[parent], filepath.Base(rel))
	}
	a := attributes{ino: st.Ino, mode: st.Mode, uid: st.Uid, gid: st.Gid, size: st.Size, sec: st.Mtim.Sec, nsec: uint32(st.Mtim.Nsec)}
	switch kind {
	case unix.S_IFDIR:
		a.nlink = 2
		if p, ok := s.nodes[parent]; ok && rel != "." {
			p.nlink++
			s.nodes[parent] = p
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		a.rdev = erofs.MakeRdev(unix.Major(st.Rdev), unix.Minor(st.Rdev))
		fallthrough
	default:
		s.links[st.Ino]++
	}
	var err error
	if a.xattrs, err = xattrs(path); err != nil {
		return err
	}
	s.nodes[rel] = a
	if fs.ValidPath(rel) {
		s.paths = append(s.paths, rel)
	}
	return nil
}

// xattrs reads the extended attributes of path itself.
func xattrs(path string) (map[string]string, error) {
	var names, value [64 << 10]byte
	n, err := unix.Llistxattr(path, names[:])
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:max(n, 0)]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		m, err := unix.Lgetxattr(path, name, value[:])
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		all[name] = string(value[:m])
	}
	return all, nil
}

// comparison is one reader held against the source.
type comparison struct {
	*source
	t      testing.TB
	who    string
	r      reader
	failed int
	inodes map[uint64]uint64 // of the source, and what they are in the image
	taken  map[uint64]uint64 // the other way round
	a, b   []byte
}

// compare reports where a reader shows something else than the source. Names that io/fs does not take are looked for in their directories
// only.
func (s *source) compare(t testing.TB, who string, r reader) {
	t.Helper()
	c := &comparison{source: s, t: t, who: who, r: r, inodes: map[uint64]uint64{}, taken: map[uint64]uint64{},
		a: make([]byte, bufferSize), b: make([]byte, bufferSize)}
	for _, path := range s.paths {
		if c.failed >= maxReported {
			t.Fatalf("%s: and more", who)
		}
		c.node(path)
	}
}

func (c *comparison) errorf(path, format string, args ...any) {
	c.t.Helper()
	c.failed++
	c.t.Errorf("%s: %q of %s: %s", c.who, path, c.dir, fmt.Sprintf(format, args...))
}

func (c *comparison) node(path string) {
	c.t.Helper()
	want := c.nodes[path]
	got, err := c.r.attributes(path)
	if err != nil {
		c.errorf(path, "%v", err)
		return
	}
	isDir := want.mode&unix.S_IFMT == unix.S_IFDIR
	if !isDir {
		want.nlink = c.links[want.ino]
	}
	c.inode(path, want.ino, got.ino)
	if path != "." || !c.o.IgnoreRoot {
		c.compareAttributes(path, want, got)
	}
	switch want.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		c.entries(path)
	case unix.S_IFREG:
		if want.size <= maxContent && c.links[want.ino] > 0 && got.size == want.size {
			c.content(path)
		}
	case unix.S_IFLNK:
		target, err := fs.ReadLink(c.r.fsys(), path)
		wanted, wantErr := os.Readlink(filepath.Join(c.dir, path))
		if err != nil || wantErr != nil || target != wanted {
			c.errorf(path, "leads to %q, want %q (%v, %v)", target, wanted, err, wantErr)
		}
	}
}

// inode checks that names of one inode, and only they, are names of one inode in the image.
func (c *comparison) inode(path string, want, got uint64) {
	c.t.Helper()
	if other, ok := c.inodes[want]; ok && other != got {
		c.errorf(path, "is inode %d, its other name %d", got, other)
	}
	if other, ok := c.taken[got]; ok && other != want {
		c.errorf(path, "shares inode %d with another file", got)
	}
	c.inodes[want], c.taken[got] = got, want
}

func (c *comparison) compareAttributes(path string, want, got attributes) {
	c.t.Helper()
	if !maps.Equal(want.xattrs, got.xattrs) {
		c.errorf(path, "extended attributes %q, want %q", got.xattrs, want.xattrs)
	}
	isDir := want.mode&unix.S_IFMT == unix.S_IFDIR
	want.ino, got.ino, want.xattrs, got.xattrs = 0, 0, nil, nil
	if isDir {
		want.size, got.size = 0, 0
	}
	if isDir && c.o.IgnoreDirTimes {
		want.sec, want.nsec, got.sec, got.nsec = 0, 0, 0, 0
	}
	if c.o.IgnoreOwner {
		want.uid, want.gid, got.uid, got.gid = 0, 0, 0, 0
	}
	if w, g := fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got); w != g {
		c.errorf(path, "attributes %s, want %s", g, w)
	}
}

func (c *comparison) entries(path string) {
	c.t.Helper()
	list, err := fs.ReadDir(c.r.fsys(), path)
	if err != nil {
		c.errorf(path, "list: %v", err)
		return
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	slices.Sort(names)
	want := slices.Sorted(slices.Values(c.names[path]))
	if !slices.Equal(names, want) {
		c.errorf(path, "has %q, want %q", names, want)
	}
}

func (c *comparison) content(path string) {
	c.t.Helper()
	f, err := openIn(filepath.Join(c.dir, path))
	if err != nil {
		c.errorf(path, "%v", err)
		return
	}
	defer f.Close()
	g, err := c.r.fsys().Open(path)
	if err != nil {
		c.errorf(path, "%v", err)
		return
	}
	defer g.Close()
	if at, err := sameContent(f, g, c.a, c.b); err != nil || at >= 0 {
		c.errorf(path, "content differs at byte %d (%v)", at, err)
	}
}
