package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// errOtherSize says that a file is not what its manifest says.
var errOtherSize = errors.New("wrong size")

// layoutObject is a blob file of an OCI image layout.
type layoutObject struct {
	dir  string
	name string // within dir
	size int64
}

// Layout returns the object with the given digest and size in the OCI image layout in dir. The file is opened for each range and not
// before, so nothing needs to be closed, and a layout that is away for a while serves again when it is back. Links that lead out of dir are
// not followed.
func Layout(dir string, d digest.Digest, size int64) (Object, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("find blob %q in layout %s: %w", d, dir, err)
	}
	return &layoutObject{dir: dir, name: filepath.Join("blobs", d.Algorithm().String(), d.Encoded()), size: size}, nil
}

func (o *layoutObject) open() (*os.File, error) {
	f, err := os.OpenInRoot(o.dir, o.name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o, err)
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
		return nil, fmt.Errorf("open %s: %w", o, err)
	}
	return f, nil
}

func (o *layoutObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(o, off, n); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("read %s: %w", o, context.Cause(ctx))
	}
	f, err := o.open()
	if err != nil {
		return nil, err
	}
	return &fileRange{r: io.NewSectionReader(f, off, n), f: f, left: n}, nil
}

func (o *layoutObject) Size() int64    { return o.size }
func (o *layoutObject) String() string { return filepath.Join(o.dir, o.name) }

// fileRange fails when the file ends early.
type fileRange struct {
	r    io.Reader
	f    *os.File
	left int64
}

func (r *fileRange) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		err = fmt.Errorf("read %s: %d bytes are missing: %w", r.f.Name(), r.left, io.ErrUnexpectedEOF)
	}
	return n, err
}

func (r *fileRange) Close() error { return r.f.Close() }

// checkRange refuses ranges that are not within the object.
func checkRange(o Object, off, n int64) error {
	if off < 0 || n <= 0 || off > o.Size()-n {
		return fmt.Errorf("read %d bytes at %d of %s: %w: it has %d", n, off, o, errBadRange, o.Size())
	}
	return nil
}
