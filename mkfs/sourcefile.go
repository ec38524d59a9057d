package mkfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	errShrank   = errors.New("the file became shorter while it was read")
	errReplaced = errors.New("another file took its place while the tree was read")
	errChanged  = errors.New("the file changed while it was read")
)

// opener opens files below the top of a source without following symbolic links, even where somebody puts one in place meanwhile.
type opener struct {
	top  *os.File
	fd   int // of top
	path string
}

func newOpener(path string) (*opener, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &opener{top: f, fd: int(f.Fd()), path: path}, nil
}

// open returns a descriptor for a regular file that the walk found. It does not use os.File, whose set-up costs more than reading a small
// file.
func (o *opener) open(f *sourceFile) (fd int, err error) {
	// O_NONBLOCK: were a pipe there now, opening it would wait for a writer.
	fd, err = o.openat(f.dir+f.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, errors.Join(o.fail(f, err), unix.Close(fd))
	}
	if (fileID{st.Dev, st.Ino}) != f.id || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, errors.Join(o.fail(f, errReplaced), unix.Close(fd))
	}
	return fd, nil
}

// openDir returns a descriptor for a directory, given as a path below the top, or "" for the top itself.
func (o *opener) openDir(rel string) (fd int, err error) {
	if rel == "" {
		rel = "."
	}
	return o.openat(rel, unix.O_RDONLY|unix.O_DIRECTORY)
}

func (o *opener) openat(rel string, flags int) (fd int, err error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	err = retry(func() (e error) { fd, e = unix.Openat2(o.fd, rel, &how); return e })
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // sandboxes that do not know openat2
		err = retry(func() (e error) { fd, e = unix.Openat(o.fd, rel, flags, 0); return e })
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: filepath.Join(o.path, rel), Err: err}
	}
	return fd, nil
}

func (o *opener) full(f *sourceFile) string { return filepath.Join(o.path, f.dir+f.name) }

func (o *opener) fail(f *sourceFile, err error) error {
	return fmt.Errorf("read %s: %w", o.full(f), err)
}

func (o *opener) close() error { return o.top.Close() }

// layoutOf finds the holes of an open file.
func layoutOf(fd int, f *sourceFile) (layout, error) {
	size := f.ino.Size
	if !f.sparse {
		return whole(size), nil
	}
	var data []span
	for off := int64(0); off < size; {
		from, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || (err == nil && from >= size) {
			if err := atLeast(fd, size); err != nil { // behind the end of a file there is no data either
				return layout{}, err
			}
			break // a hole up to the end
		}
		if errors.Is(err, unix.EINVAL) {
			return whole(size), nil // the file system does not tell
		}
		if err != nil {
			return layout{}, fmt.Errorf("find data from byte %d: %w", off, err)
		}
		if off, err = unix.Seek(fd, from, unix.SEEK_HOLE); err != nil {
			return layout{}, fmt.Errorf("find hole from byte %d: %w", from, err)
		}
		if off <= from {
			return layout{}, errChanged
		}
		data = append(data, span{from, min(off, size) - from})
	}
	return sparse(size, data), nil
}

// atLeast fails if an open file is shorter than size.
func atLeast(fd int, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Size < size {
		return errShrank
	}
	return nil
}

// readAt fills p from an open file.
func readAt(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		var n int
		err := retry(func() (e error) { n, e = unix.Pread(fd, p, off); return e })
		if err != nil {
			return err
		}
		if n == 0 {
			return errShrank
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// retry repeats a system call that a signal interrupted, as file systems over a network or FUSE may be.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
