package erofs

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may lead through, as in the kernel.
const maxLinks = 40

// validPath is fs.ValidPath without the demand for UTF-8.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// walk finds the inode of a path. A symbolic link at its end is followed only on demand.
func (fsys *FS) walk(op, name string, follow bool) (*node, error) {
	if !validPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, err := fsys.walkFrom(name, follow)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

func (fsys *FS) walkFrom(path string, follow bool) (*node, error) {
	root, err := fsys.inode(fsys.root())
	if err != nil {
		return nil, err
	}
	above := []*node{} // the directories that ".." goes back to
	at, links := root, 0
	for path != "" {
		var part string
		part, path, _ = strings.Cut(path, "/")
		if part == "" || part == "." {
			continue
		}
		if !at.isDir() {
			return nil, unix.ENOTDIR
		}
		if part == ".." {
			if k := len(above) - 1; k >= 0 {
				at, above = above[k], above[:k]
			}
			continue
		}
		e, err := at.lookup(part)
		if err != nil {
			return nil, err
		}
		next, err := at.child(e)
		if err != nil {
			return nil, err
		}
		if !next.isSymlink() || path == "" && !follow {
			above, at = append(above, at), next
			continue
		}
		if links++; links > maxLinks {
			return nil, unix.ELOOP
		}
		target, err := next.target()
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			above, at = above[:0], root
		}
		if path != "" {
			target += "/" + path
		}
		path = target
	}
	return at, nil
}

// Stat follows symbolic links. The FileInfo's Sys is a *[Stat].
func (fsys *FS) Stat(name string) (fs.FileInfo, error) {
	n, err := fsys.walk("stat", name, true)
	if err != nil {
		return nil, err
	}
	return newInfo(name, n), nil
}

// Lstat is Stat for the symbolic link itself.
func (fsys *FS) Lstat(name string) (fs.FileInfo, error) {
	n, err := fsys.walk("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return newInfo(name, n), nil
}

// ReadLink returns the target of a symbolic link.
func (fsys *FS) ReadLink(name string) (string, error) {
	n, err := fsys.walk("readlink", name, false)
	if err != nil {
		return "", err
	}
	if !n.isSymlink() {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	target, err := n.target()
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

// ReadDir returns the entries of a directory, sorted by name as bytes.
func (fsys *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := fsys.walk("readdir", name, true)
	if err != nil {
		return nil, err
	}
	d := dirFile{base: base{name: name, node: n}}
	return d.ReadDir(-1)
}

// Xattrs returns the extended attributes of a file, or of a symbolic link itself, with their full names, in the order in which they are stored.
func (fsys *FS) Xattrs(name string) ([]Xattr, error) {
	n, err := fsys.walk("listxattr", name, false)
	if err != nil {
		return nil, err
	}
	list, err := n.xattrs()
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: name, Err: err}
	}
	return list, nil
}

// Digest returns the SHA-256 that the image states for the content of a regular file, or of the file that a symbolic link leads to; nothing is
// verified. ok is false if it states none.
func (fsys *FS) Digest(name string) (sum [32]byte, ok bool, err error) {
	n, err := fsys.walk("digest", name, true)
	if err != nil {
		return sum, false, err
	}
	if sum, ok, err = n.digest(); err != nil {
		return sum, false, &fs.PathError{Op: "digest", Path: name, Err: err}
	}
	return sum, ok, nil
}

// Extents returns where the data of a regular file is, in the order of the file and in pieces of greatest length. Holes and inline data are left
// out. The last extent ends with the file, not with the block. That the blocks exist on their device is not checked.
func (fsys *FS) Extents(name string) ([]Extent, error) {
	n, err := fsys.walk("extents", name, false)
	if err != nil {
		return nil, err
	}
	if !n.isRegular() {
		return nil, &fs.PathError{Op: "extents", Path: name, Err: fs.ErrInvalid}
	}
	list, err := n.extents()
	if err != nil {
		return nil, &fs.PathError{Op: "extents", Path: name, Err: err}
	}
	return list, nil
}

// Open opens a file or directory, following symbolic links. Directories are [fs.ReadDirFile]; regular files are also [io.ReaderAt], which may
// be called concurrently, and [io.Seeker].
func (fsys *FS) Open(name string) (fs.File, error) {
	n, err := fsys.walk("open", name, true)
	if err != nil {
		return nil, err
	}
	b := base{name: name, node: n}
	switch {
	case n.isDir():
		return &dirFile{base: b}, nil
	case n.isRegular():
		return &regularFile{base: b}, nil
	}
	return &specialFile{base: b}, nil
}
