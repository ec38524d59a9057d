package setup

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/atomicfile"
)

// keepOwner gives a file that replaces another one its mode and owner.
func keepOwner(path string, f *atomicfile.File) error {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return f.Chmod(fs.FileMode(st.Mode & 0o777))
}
