package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// view is a tree as some reader shows it.
type view interface {
	lstat(path string) (Stat, error)
	readlink(path string) (string, error)
	names(path string) ([]string, error) // without "." and ".."
	xattrs(path string) ([]Xattr, error) // any order
	open(path string) (io.ReaderAt, io.Closer, error)
	readable(path string) bool // false: this reader cannot name the path
}

// errTooFar comes from a view that cannot read at large offsets.
var errTooFar = errors.New("not readable at large offsets")

// compare checks that a view shows the fixture's tree.
func compare(t *testing.T, f *fixture, v view) {
	t.Helper()
	bad := 0
	inos := map[*Inode]uint64{}
	owners := map[uint64]*Inode{}
	links := map[*Inode]uint32{}
	f.each(func(_ string, n *Inode) {
		if links[n]++; n.IsDir() {
			links[n]++
			for _, e := range n.Entries {
				if e.Inode.IsDir() {
					links[n]++
				}
			}
		}
	})
	f.each(func(path string, n *Inode) {
		if bad > 20 || !v.readable(path) {
			return
		}
		st, err := v.lstat(path)
		if err != nil {
			t.Errorf("%.80q: %v", path, err)
			bad++
			return
		}
		want := Stat{Ino: st.Ino, Mode: n.Mode, Nlink: links[n], UID: n.UID, GID: n.GID, Mtime: n.Mtime, MtimeNsec: n.MtimeNsec, Size: st.Size}
		switch n.Mode & unix.S_IFMT {
		case unix.S_IFCHR, unix.S_IFBLK:
			want.Rdev = n.Rdev
		case unix.S_IFREG:
			want.Size = n.Size
		case unix.S_IFLNK:
			want.Size = int64(len(n.Target))
		}
		if st != want {
			t.Errorf("%.80q: stat is %+v, want %+v", path, st, want)
			bad++
		}
		if ino, ok := inos[n]; ok && ino != st.Ino || st.Ino == 0 {
			t.Errorf("%.80q: inode number %d, its other link has %d", path, st.Ino, ino)
			bad++
		}
		if other, ok := owners[st.Ino]; ok && other != n {
			t.Errorf("%.80q: inode number %d is also another file's", path, st.Ino)
			bad++
		}
		inos[n], owners[st.Ino] = st.Ino, n
		if err := compareInode(f, v, path, n); err != nil {
			t.Errorf("%.80q: %v", path, err)
			bad++
		}
	})
}

func compareInode(f *fixture, v view, path string, n *Inode) error {
	got, err := v.xattrs(path)
	if err != nil {
		return err
	}
	byName := func(a, b Xattr) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) }
	want := slices.SortedFunc(slices.Values(n.Xattrs), byName)
	slices.SortFunc(got, byName)
	if !slices.EqualFunc(got, want, func(a, b Xattr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) }) {
		return fmt.Errorf("xattrs %s, want %s", outline(got), outline(want))
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := v.readlink(path)
		if err != nil || target != n.Target {
			return fmt.Errorf("link target is %.100q (%v), want %.100q", target, err, n.Target)
		}
	case unix.S_IFDIR:
		return compareNames(v, path, n)
	case unix.S_IFREG:
		if err := compareDigest(f, v, path, n); err != nil {
			return err
		}
		if k, ok := v.(kernelView); ok && k.misread(n) {
			return nil
		}
		return compareData(f, v, path, n)
	}
	return nil
}

// compareDigest compares content digests where the view shows them.
func compareDigest(f *fixture, v view, path string, n *Inode) error {
	own, ok := v.(fsView)
	if !ok {
		return nil
	}
	var want [32]byte
	has := f.opts.DigestXattr != "" && n.Digest != nil && n.Size > 0
	if has {
		want = *n.Digest
	}
	if sum, ok, err := own.Digest(path); err != nil || ok != has || sum != want {
		return fmt.Errorf("digest %x (%v, %v), want %x (%v)", sum, ok, err, want, has)
	}
	return nil
}

// outline is short enough to print: names and lengths.
func outline(list []Xattr) string {
	s := ""
	for _, x := range list {
		s += fmt.Sprintf(" %.40q:%d", x.Name, len(x.Value))
	}
	return "[" + s + " ]"
}

func compareNames(v view, path string, n *Inode) error {
	got, err := v.names(path)
	if err != nil {
		return err
	}
	var want []string
	for _, e := range n.Entries {
		want = append(want, e.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%d names, want %d: %.400s", len(got), len(want), fmt.Sprintf("%.20q", got))
	}
	return nil
}

func compareData(f *fixture, v view, path string, n *Inode) error {
	r, c, err := v.open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, p := range probes(n) {
		want := f.want(n, p[0], int(p[1]))
		got := make([]byte, len(want))
		k, err := r.ReadAt(got, p[0])
		if err == errTooFar {
			continue
		}
		if k < len(got) {
			return fmt.Errorf("read %d bytes at %d: got %d: %w", len(got), p[0], k, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes at %d are wrong: %s; extents %+v", len(got), p[0], difference(got, want, p[0]), n.Extents)
		}
	}
	if k, err := r.ReadAt(make([]byte, 1), n.Size); k != 0 || err != io.EOF && err != errTooFar {
		return fmt.Errorf("read at the end: %d bytes, %v", k, err)
	}
	return nil
}

// difference says which blocks of a file differ, and whether zeros are there instead. off is where got and want begin in the file.
func difference(got, want []byte, off int64) string {
	s := ""
	for at := 0; at < len(got); {
		size := min(len(got)-at, BlockSize-int(off+int64(at))%BlockSize)
		if g := got[at : at+size]; !bytes.Equal(g, want[at:at+size]) {
			s += fmt.Sprintf(" block %d (zeros: %v)", (off+int64(at))/BlockSize, len(bytes.Trim(g, "\x00")) == 0)
		}
		at += size
	}
	return s
}

// fsView is the view of this package's reader.
type fsView struct{ *FS }

func (v fsView) readable(string) bool { return true }

func (v fsView) lstat(path string) (Stat, error) {
	i, err := v.Lstat(path)
	if err != nil {
		return Stat{}, err
	}
	return *i.Sys().(*Stat), nil
}

func (v fsView) readlink(path string) (string, error) { return v.ReadLink(path) }
func (v fsView) xattrs(path string) ([]Xattr, error)  { return v.Xattrs(path) }

func (v fsView) names(path string) ([]string, error) {
	list, err := v.ReadDir(path)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, err
}

func (v fsView) open(path string) (io.ReaderAt, io.Closer, error) {
	f, err := v.Open(path)
	if err != nil {
		return nil, nil, err
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return nil, nil, fmt.Errorf("%T is no io.ReaderAt", f)
	}
	return r, f, nil
}
