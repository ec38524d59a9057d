package backend

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// file is a regular file of known size below a directory that it must not lead out of.
type file struct {
	dir  string
	name string // within dir
	size int64
}

// Size implements [Object].
func (o *file) Size() int64 { return o.size }

// String implements [Object].
func (o *file) String() string { return filepath.Join(o.dir, o.name) }

// open opens the file, and refuses what is none or has another size. A pipe in its place does not make it wait.
func (o *file) open() (*os.File, error) {
	root, err := os.OpenRoot(o.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() // files outlive it
	f, err := root.OpenFile(o.name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("it is no regular file: %w", fs.ErrInvalid)
	}
	if err == nil && fi.Size() != o.size {
		err = fmt.Errorf("%w: it has %d bytes, the manifest says %d", errOtherSize, fi.Size(), o.size)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
