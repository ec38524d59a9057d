package erofs

import (
	"io"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Handle is one file of an image, of any type. Where the methods of [FS] walk a path each time, a handle has found its file once: for those who
// visit every file, and want to know the inode beneath. Its methods may be called concurrently.
type Handle struct{ node *node }

// Entry is a name in a directory.
type Entry struct {
	Name string
	Ino  uint64 // the nid that it leads to
	Type uint32 // what the entry says of it, in the type bits of st_mode; 0 if it says nothing that is known

	dir   *node
	raw   dirent
	above *trail // how a visit came here
}

// Root returns the top directory.
func (fsys *FS) Root() (Handle, error) {
	n, err := fsys.inode(fsys.root())
	return Handle{n}, err
}

// Find walks any path as the kernel would in a process whose root directory the image is: it may begin or end with slashes and contain "." and "..".
// A symbolic link at its end is followed only on demand, or if a slash comes behind it.
func (fsys *FS) Find(name string, follow bool) (Handle, error) {
	dir := strings.HasSuffix(name, "/")
	n, err := fsys.walkFrom(name, follow || dir)
	if err == nil && dir && !n.isDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return Handle{}, &fs.PathError{Op: "find", Path: name, Err: err}
	}
	return Handle{n}, nil
}

// Stat returns the file's attributes.
func (h Handle) Stat() Stat { return newInfo(".", h.node).stat }

// Xattrs is [FS.Xattrs].
func (h Handle) Xattrs() ([]Xattr, error) { return h.node.xattrs() }

// Digest is [FS.Digest].
func (h Handle) Digest() (sum [32]byte, ok bool, err error) { return h.node.digest() }

// Extents is [FS.Extents], of a regular file only.
func (h Handle) Extents() ([]Extent, error) {
	if !h.node.isRegular() {
		return nil, h.node.errorf("list extents: %w", fs.ErrInvalid)
	}
	return h.node.extents()
}

// Target returns what a symbolic link points to.
func (h Handle) Target() (string, error) {
	if !h.node.isSymlink() {
		return "", h.node.errorf("read link: %w", fs.ErrInvalid)
	}
	return h.node.target()
}

// ReadAt implements [io.ReaderAt] for a regular file.
func (h Handle) ReadAt(b []byte, off int64) (int, error) {
	if !h.node.isRegular() {
		return 0, h.node.errorf("read: %w", fs.ErrInvalid)
	}
	return h.node.readAt(b, off)
}

// Entries returns the names in a directory, sorted as bytes, without "." and "..".
func (h Handle) Entries() ([]Entry, error) {
	if !h.node.isDir() {
		return nil, h.node.errorf("read directory: %w", unix.ENOTDIR)
	}
	d := dirFile{base: base{name: ".", node: h.node}}
	var list []Entry
	for {
		more, err := d.fill()
		if err != nil || !more {
			return list, err
		}
		for _, e := range d.left {
			if e, ok := e.(*dirEntry); ok {
				list = append(list, newEntry(h.node, e.name, e.dirent))
			}
		}
	}
}

// Lookup finds one name in a directory, "." and ".." among them.
func (h Handle) Lookup(name string) (Entry, error) {
	if !h.node.isDir() {
		return Entry{}, h.node.errorf("look for %q: %w", name, unix.ENOTDIR)
	}
	raw, err := h.node.lookup(name)
	if err != nil {
		return Entry{}, h.node.errorf("look for %q: %w", name, err)
	}
	return newEntry(h.node, name, raw), nil
}

func newEntry(dir *node, name string, raw dirent) Entry {
	return Entry{Name: name, Ino: raw.Nid, Type: typeBits(raw.Type), dir: dir, raw: raw}
}

// Handle reads the inode that an entry of [Handle.Entries] leads to. That of a directory must name the entry's directory as its parent.
func (e Entry) Handle() (Handle, error) {
	n, err := e.dir.child(e.raw)
	return Handle{n}, err
}

var _ io.ReaderAt = Handle{}
