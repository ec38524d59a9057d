package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// Dir writes the tree into a directory that is new or empty. Without privileges, owners, devices and some attributes cannot be kept; that is noted and counted,
// and bits like setuid are then dropped with the owner that they mean. After an error, what is in the directory is incomplete.
func Dir(ctx context.Context, fsys *erofs.FS, dir string, o Options) (Stats, error) {
	o.complete()
	x := &extractor{ctx: ctx, o: o, notes: notes{say: o.Note}, buf: make([]byte, pieceSize), block: int64(fsys.Super().BlockSize), links: map[uint64]erofs.Path{}}
	defer x.close()
	if err := x.begin(dir); err != nil {
		return Stats{}, fmt.Errorf("export to %s: %w", dir, err)
	}
	root, err := fsys.Root()
	if err == nil {
		err = erofs.Visit(root, erofs.Visitor{Enter: x.enter, Leave: x.leave})
	}
	if err != nil {
		return x.result(), fmt.Errorf("export to %s, which is now incomplete: %w", dir, err)
	}
	return x.result(), nil
}

// extractor is a Dir under way.
type extractor struct {
	ctx   context.Context
	o     Options
	notes notes
	stats Stats
	buf   []byte
	block int64                 // size of the image's blocks
	dirs  []int                 // descriptors: of the target, and of the directories down to the current one
	links map[uint64]erofs.Path // the first path of inodes that have several
}

func (x *extractor) result() Stats {
	s := x.stats
	s.Lost = x.notes.lost
	return s
}

func (x *extractor) close() {
	for _, fd := range x.dirs {
		_ = unix.Close(fd)
	}
}

// begin opens the target. Nobody else may look into it until its own attributes are set, at the end, and nothing may inherit from it.
func (x *extractor) begin(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	x.dirs = append(x.dirs, fd)
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("it is not empty: %q is in it", names[0].Name())
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		if err := unix.Fremovexattr(fd, name); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("take the ACL off: %w", err)
		}
	}
	return nil
}

func (x *extractor) enter(path string, depth int, e erofs.Entry, h erofs.Handle, err error) error {
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	made := true // the target, by begin
	if depth > 0 {
		// The visit has left all directories but those that lead here.
		if made, err = x.create(x.dirs[depth-1], path, e, h); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
	}
	if made {
		x.stats.Names++
		x.o.Progress(x.result())
	}
	return nil
}

// create makes one file in the directory parent, and reports whether it could be made.
func (x *extractor) create(parent int, path string, e erofs.Entry, h erofs.Handle) (made bool, err error) {
	name, st := e.Name, h.Stat()
	if fileType(st) == unix.S_IFDIR {
		if err := unix.Mkdirat(parent, name, 0o700); err != nil {
			return false, fmt.Errorf("make directory: %w", err)
		}
		fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, fmt.Errorf("open directory: %w", err)
		}
		x.dirs = append(x.dirs, fd)
		return true, nil
	}
	if first, ok := x.links[st.Ino]; ok {
		return true, x.link(first.String(), parent, name)
	}
	if st.Nlink > 1 {
		x.links[st.Ino] = e.Path()
	}
	switch fileType(st) {
	case unix.S_IFREG:
		return true, x.regular(parent, path, name, h, st)
	case unix.S_IFLNK:
		target, err := h.Target()
		if err != nil {
			return false, err
		}
		if err := unix.Symlinkat(target, parent, name); err != nil {
			return false, fmt.Errorf("make symbolic link: %w", err)
		}
	default:
		if made, err := x.special(parent, path, name, st); !made || err != nil {
			return false, err
		}
	}
	return true, x.attributes(at{dir: parent, name: name, path: path}, h, st)
}

// special makes a device, a pipe or a socket, and reports whether it did.
func (x *extractor) special(parent int, path, name string, st erofs.Stat) (bool, error) {
	major, minor := erofs.SplitRdev(st.Rdev)
	err := unix.Mknodat(parent, name, fileType(st)|0o600, int(unix.Mkdev(major, minor)))
	if errors.Is(err, unix.EPERM) {
		x.notes.lose("devices", path, err)
		delete(x.links, st.Ino)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make special file: %w", err)
	}
	return true, nil
}

// regular makes a regular file with its data.
func (x *extractor) regular(parent int, path, name string, h erofs.Handle, st erofs.Stat) (err error) {
	fd, err := unix.Openat(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("make file: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { err = errors.Join(err, f.Close()) }()
	list, err := spans(h, st, x.block, x.o.Zero)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := copySpan(h, s, x.buf, func(b []byte, off int64) error { return x.write(f, b, off) }); err != nil {
			return err
		}
	}
	if err := f.Truncate(st.Size); err != nil {
		return fmt.Errorf("set length: %w", err)
	}
	return x.attributes(at{fd: fd, dir: parent, name: name, path: path}, h, st)
}

// write writes what is not zero, in whole blocks, so that holes that were filled become holes again.
func (x *extractor) write(f *os.File, b []byte, off int64) error {
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	for len(b) > 0 {
		n, zero := run(b)
		if !zero {
			if _, err := f.WriteAt(b[:n], off); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			x.stats.Bytes += int64(n)
		}
		b = b[n:]
		off += int64(n)
	}
	return nil
}

// run returns how many bytes at the beginning of b, which begins at a block, are in blocks that are all zero, or in blocks that are not.
func run(b []byte) (n int, zero bool) {
	const block = erofs.BlockSize
	zero = isZero(b[:min(block, len(b))])
	for n = min(block, len(b)); n < len(b); n = min(n+block, len(b)) {
		if isZero(b[n:min(n+block, len(b))]) != zero {
			break
		}
	}
	return n, zero
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// leave sets what a directory is to be like when nothing is put into it any more.
func (x *extractor) leave(path string, h erofs.Handle) error {
	last := len(x.dirs) - 1
	fd := x.dirs[last]
	where := at{fd: fd, path: path}
	if err := x.attributes(where, h, h.Stat()); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if last > 0 { // the target is closed at the end
		x.dirs = x.dirs[:last]
		if err := unix.Close(fd); err != nil {
			return fmt.Errorf("%q: close: %w", path, err)
		}
	}
	return nil
}
