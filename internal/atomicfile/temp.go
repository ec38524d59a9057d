package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Temp makes a temporary file without a name in a directory, "" meaning the system's for such files. It goes away with its descriptor, however the process
// ends. Where the file system knows no such files, it has a name for a moment.
func Temp(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := nameless(dir, dir, unix.O_TMPFILE|unix.O_EXCL, 0o600)
	if isUnknown(err) {
		f, err = named(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("make temporary file in %s: %w", dir, err)
	}
	return f, nil
}

func named(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, Prefix+"*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) { // a sweeper may have been faster
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// nameless opens a file without a name. Messages call it as.
func nameless(dir, as string, flags int, perm os.FileMode) (*os.File, error) {
	fd, err := unix.Open(dir, flags|unix.O_RDWR|unix.O_CLOEXEC, uint32(perm.Perm()))
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), as), nil
}

// isUnknown reports whether an error is what a file system without nameless files says, or a kernel that does not know the flag.
func isUnknown(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL)
}
