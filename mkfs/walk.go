package mkfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// fileID names an inode of the source.
type fileID struct{ dev, ino uint64 }

// sourceFile is a regular file with data whose content is yet to be read.
type sourceFile struct {
	ino    *erofs.Inode
	dir    string // path of its directory below the top, "" or ending in a slash
	name   string
	id     fileID
	sparse bool // it has less disk space than bytes, so it may have holes
	linked bool // it may have further names
}

// foundDir is a directory of the source and what was found in it, in order of names.
type foundDir struct {
	ino   *erofs.Inode
	rel   string // path below the top, "" or ending in a slash
	files []sourceFile
	dirs  []*foundDir
	notes []note // those that are about "" stand for themselves
}

// walker reads names and attributes of a directory tree. Directories are read by several workers; what they find does not depend on who finds it.
type walker struct {
	top     *opener
	exclude map[fileID]bool
	skip    func(path string) bool // nil skips nothing

	mu    sync.Mutex
	links map[fileID]*erofs.Inode // files with several names

	work dirStack
}

// walk returns the top directory of the tree, with inodes that lack nothing but the data of regular files.
func (w *walker) walk(ctx context.Context) (*foundDir, error) {
	var st unix.Stat_t
	if err := unix.Fstat(w.top.fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: w.top.path, Err: err}
	}
	root := &foundDir{}
	first := w.reader()
	var err error
	if root.ino, err = first.inode(root, &st, ""); err != nil {
		return nil, err
	}
	root.notes = first.odd.all
	w.work.init(root)
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, w.work.stop)
	defer stop()
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			r := w.reader()
			for dir := w.work.next(); dir != nil; dir = w.work.next() {
				if err := r.readDir(dir); err != nil {
					return err
				}
				w.work.done(dir.dirs)
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return root, nil
}

// dirStack holds the directories that are found and not yet read.
type dirStack struct {
	mu    sync.Mutex
	more  sync.Cond
	dirs  []*foundDir
	open  int // directories that are in dirs or being read
	ended bool
}

func (s *dirStack) init(root *foundDir) {
	s.more.L = &s.mu
	s.dirs, s.open = []*foundDir{root}, 1
}

// next returns a directory to read, nil when there are no more.
func (s *dirStack) next() *foundDir {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.dirs) == 0 && s.open > 0 && !s.ended {
		s.more.Wait()
	}
	if len(s.dirs) == 0 || s.ended {
		return nil
	}
	dir := s.dirs[len(s.dirs)-1]
	s.dirs = s.dirs[:len(s.dirs)-1]
	return dir
}

// done ends the reading of a directory that next returned, in which others were found.
func (s *dirStack) done(found []*foundDir) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs = append(s.dirs, found...)
	s.open += len(found) - 1
	if len(found) > 0 || s.open == 0 {
		s.more.Broadcast()
	}
}

// stop has next return nil from now on.
func (s *dirStack) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.more.Broadcast()
}

// dirReader is one worker of a walk.
type dirReader struct {
	*walker
	odd    notes // about attributes in the directory that is read
	names  []string
	dirent [32 << 10]byte // for getdents
	list   [64 << 10]byte // for listxattr: the kernel's limit
	value  [64 << 10]byte // for getxattr: the kernel's limit
}

func (w *walker) reader() *dirReader { return &dirReader{walker: w} }

// readDir fills one directory. It makes no os.File, whose set-up takes as long as reading a small directory.
func (r *dirReader) readDir(dir *foundDir) (err error) {
	fd, err := r.top.openDir(dir.rel)
	if err != nil {
		return err
	}
	defer func() {
		if e := unix.Close(fd); e != nil {
			err = errors.Join(err, &os.PathError{Op: "close", Path: r.path(dir, ""), Err: e})
		}
	}()
	if err := r.readNames(fd); err != nil {
		return &os.PathError{Op: "getdents", Path: r.path(dir, ""), Err: err}
	}
	dir.ino.Entries = make([]erofs.Dirent, 0, len(r.names))
	for _, name := range r.names {
		if r.skip != nil && r.skip(dir.rel+name) {
			continue
		}
		var st unix.Stat_t
		if err := retry(func() error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
			return &os.PathError{Op: "lstat", Path: r.path(dir, name), Err: err}
		}
		ino, err := r.entry(dir, &st, name)
		if err != nil {
			return err
		}
		if ino != nil {
			dir.ino.Entries = append(dir.ino.Entries, erofs.Dirent{Name: name, Inode: ino})
		}
	}
	dir.notes = append(dir.notes, r.odd.all...)
	r.odd = notes{}
	return nil
}

// readNames sets r.names to the sorted names in an open directory.
func (r *dirReader) readNames(fd int) error {
	r.names = r.names[:0]
	for {
		n := 0
		if err := retry(func() (e error) { n, e = unix.Getdents(fd, r.dirent[:]); return e }); err != nil {
			return err
		}
		if n <= 0 {
			break
		}
		_, _, r.names = unix.ParseDirent(r.dirent[:n], -1, r.names)
	}
	slices.Sort(r.names)
	return nil
}

func (r *dirReader) path(dir *foundDir, name string) string {
	return filepath.Join(r.top.path, dir.rel+name)
}

// entry returns the inode of one directory entry, or nil if it is left out.
func (r *dirReader) entry(dir *foundDir, st *unix.Stat_t, name string) (*erofs.Inode, error) {
	kind := st.Mode & unix.S_IFMT
	id := fileID{st.Dev, st.Ino}
	switch {
	case kind == unix.S_IFSOCK:
		dir.notes = append(dir.notes, note{message: r.path(dir, name) + " is left out: it is a socket"})
		return nil, nil
	case r.exclude[id]:
		dir.notes = append(dir.notes, note{message: r.path(dir, name) + " is left out: it is an output"})
		return nil, nil
	}
	linked := st.Nlink > 1 && kind != unix.S_IFDIR
	ino, err := r.linkedInode(dir, st, name, linked)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == unix.S_IFREG && st.Size > 0:
		dir.files = append(dir.files, sourceFile{ino: ino, dir: dir.rel, name: name, id: id, sparse: st.Blocks*512 < st.Size, linked: linked})
	case kind == unix.S_IFDIR:
		dir.dirs = append(dir.dirs, &foundDir{ino: ino, rel: dir.rel + name + "/"})
	}
	return ino, nil
}

// linkedInode is inode, but a file with several names gets one inode for all of them.
func (r *dirReader) linkedInode(dir *foundDir, st *unix.Stat_t, name string, linked bool) (*erofs.Inode, error) {
	id := fileID{st.Dev, st.Ino}
	if linked {
		r.mu.Lock()
		ino := r.links[id]
		r.mu.Unlock()
		if ino != nil {
			return ino, nil
		}
	}
	ino, err := r.inode(dir, st, name)
	if err != nil || !linked {
		return ino, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if other := r.links[id]; other != nil { // another worker met another name meanwhile
		return other, nil
	}
	r.links[id] = ino
	return ino, nil
}

// inode takes over the attributes of a file, or of dir itself if the name is empty.
func (r *dirReader) inode(dir *foundDir, st *unix.Stat_t, name string) (*erofs.Inode, error) {
	path := r.top.path + "/" + dir.rel + name
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
	ino.Xattrs, err = r.xattrs(path)
	return ino, err
}

// xattrs reads the extended attributes of path itself.
func (r *dirReader) xattrs(path string) ([]erofs.Xattr, error) {
	n, err := unix.Llistxattr(path, r.list[:])
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return nil, &os.PathError{Op: "llistxattr", Path: path, Err: err}
	}
	if n <= 0 {
		return nil, nil
	}
	var all []erofs.Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(r.list[:n]), "\x00"), "\x00") {
		if !storableXattr(name) {
			r.odd.xattr(path, name)
			continue
		}
		m, err := unix.Lgetxattr(path, name, r.value[:])
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr " + name, Path: path, Err: err}
		}
		all = append(all, erofs.Xattr{Name: name, Value: slices.Clone(r.value[:m])})
	}
	return all, nil
}
