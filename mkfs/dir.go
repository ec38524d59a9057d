package mkfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// AddDir fills an empty tree from a directory. It follows no symbolic link below dir, keeps hard links and holes, and leaves out sockets and
// what [Options] exclude, with a note each. Files must not change meanwhile: one that shrinks, or is replaced by another, is an error.
func (t *Tree) AddDir(ctx context.Context, dir string, sink Sink) error {
	if err := t.begin(); err != nil {
		return err
	}
	if err := t.addDir(ctx, dir, sink); err != nil {
		return fmt.Errorf("read directory %s: %w", dir, err)
	}
	return nil
}

func (t *Tree) addDir(ctx context.Context, dir string, sink Sink) error {
	top, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	w := t.walker(top)
	if t.root, err = w.walk(ctx); err != nil {
		return err
	}
	return t.loadFiles(ctx, w, sink)
}

func (t *Tree) walker(top string) *walker {
	w := &walker{note: t.opts.Note, noteXattr: t.notes.xattr, top: top, links: map[fileID]*erofs.Inode{}, exclude: map[fileID]bool{}, sizes: map[int64]int32{}}
	for _, info := range t.opts.Exclude {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			w.exclude[fileID{st.Dev, st.Ino}] = true
		}
	}
	return w
}

// fileID names an inode of the source.
type fileID struct{ dev, ino uint64 }

// sourceFile is a regular file with data whose content is yet to be read.
type sourceFile struct {
	ino    *erofs.Inode
	dir    string // path of its directory below the top, "" or ending in a slash
	name   string
	id     fileID
	sparse bool // it has less disk space than bytes, so it may have holes
}

// walker reads names and attributes of a directory tree.
type walker struct {
	note      func(message string)
	noteXattr func(path, name string)
	top       string
	links     map[fileID]*erofs.Inode // files with several names
	exclude   map[fileID]bool
	files     []sourceFile    // in the order in which their data is to lie: a directory's files together, in order of names
	sizes     map[int64]int32 // number of files of each size
	names     [64 << 10]byte  // for listxattr: the kernel's limit
	values    [64 << 10]byte  // for getxattr: the kernel's limit
}

// pending is a directory that was found and not yet read.
type pending struct {
	ino *erofs.Inode
	rel string // "" or ending in a slash
}

// walk returns the tree, regular files without data.
func (w *walker) walk(ctx context.Context) (*erofs.Inode, error) {
	var st unix.Stat_t
	if err := unix.Lstat(w.top, &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: w.top, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	root, err := w.inode(&st, "", "")
	if err != nil {
		return nil, err
	}
	stack := []pending{{root, ""}}
	for len(stack) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		first := len(stack)
		if stack, err = w.readDir(p, stack); err != nil {
			return nil, err
		}
		slices.Reverse(stack[first:]) // the last one is next
	}
	return root, nil
}

// readDir fills one directory and appends those in it to the stack, by name.
func (w *walker) readDir(p pending, stack []pending) ([]pending, error) {
	path := filepath.Join(w.top, p.rel)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	fd := int(f.Fd())
	p.ino.Entries = make([]erofs.Dirent, 0, len(names))
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, &os.PathError{Op: "lstat", Path: filepath.Join(path, name), Err: err}
		}
		ino, err := w.entry(&st, p.rel, name)
		if err != nil {
			return nil, err
		}
		if ino == nil {
			continue
		}
		p.ino.Entries = append(p.ino.Entries, erofs.Dirent{Name: name, Inode: ino})
		if ino.IsDir() {
			stack = append(stack, pending{ino, p.rel + name + "/"})
		}
	}
	return stack, nil
}

// entry returns the inode of one directory entry, or nil if it is left out.
func (w *walker) entry(st *unix.Stat_t, dir, name string) (*erofs.Inode, error) {
	kind := st.Mode & unix.S_IFMT
	id := fileID{st.Dev, st.Ino}
	if kind == unix.S_IFSOCK {
		w.note(fmt.Sprintf("%s is left out: it is a socket", filepath.Join(w.top, dir, name)))
		return nil, nil
	}
	if w.exclude[id] {
		w.note(fmt.Sprintf("%s is left out: it is an output", filepath.Join(w.top, dir, name)))
		return nil, nil
	}
	linked := st.Nlink > 1 && kind != unix.S_IFDIR
	if linked && w.links[id] != nil {
		return w.links[id], nil
	}
	ino, err := w.inode(st, dir, name)
	if err != nil {
		return nil, err
	}
	if linked {
		w.links[id] = ino
	}
	if kind == unix.S_IFREG && st.Size > 0 {
		w.files = append(w.files, sourceFile{ino: ino, dir: dir, name: name, id: id, sparse: st.Blocks*512 < st.Size})
		w.sizes[st.Size]++
	}
	return ino, nil
}

// inode takes over the attributes of a file.
func (w *walker) inode(st *unix.Stat_t, dir, name string) (*erofs.Inode, error) {
	path := w.top + "/" + dir + name
	ino := &erofs.Inode{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim.Sec, MtimeNsec: uint32(st.Mtim.Nsec)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		ino.Size = st.Size
		if err := (layout{size: st.Size}).check(); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return nil, err
		}
		ino.Target = target
	case unix.S_IFCHR, unix.S_IFBLK:
		ino.Rdev = erofs.MakeRdev(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	var err error
	ino.Xattrs, err = w.xattrs(path)
	return ino, err
}

// xattrs reads the extended attributes of path itself.
func (w *walker) xattrs(path string) ([]erofs.Xattr, error) {
	n, err := unix.Llistxattr(path, w.names[:])
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	if n <= 0 {
		return nil, nil
	}
	var all []erofs.Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(w.names[:n]), "\x00"), "\x00") {
		if !storableXattr(name) {
			w.noteXattr(path, name)
			continue
		}
		m, err := unix.Lgetxattr(path, name, w.values[:])
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		all = append(all, erofs.Xattr{Name: name, Value: slices.Clone(w.values[:m])})
	}
	return all, nil
}
