package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// layoutObject is a blob file of an OCI image layout.
type layoutObject struct{ file }

// Layout returns the object with the given digest and size in the OCI image layout in dir. The file is opened for each range and not
// before, so nothing needs to be closed, and a layout that is away for a while serves again when it is back. Links that lead out of dir are
// not followed. It is meant for local file systems: calls into the kernel are not bounded in time, unlike those of [Storage]'s file:// objects.
func Layout(dir string, d digest.Digest, size int64) (Object, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("find blob %q in layout %s: %w", d, dir, err)
	}
	return &layoutObject{file{dir: dir, name: filepath.Join("blobs", d.Algorithm().String(), d.Encoded()), size: size}}, nil
}

// Range implements [Object].
func (o *layoutObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(o, off, n); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, rangeError(o, off, n, context.Cause(ctx))
	}
	f, err := o.open()
	if err != nil {
		return nil, rangeError(o, off, n, err)
	}
	return &layoutRange{r: io.NewSectionReader(f, off, n), f: f, left: n, fail: func(err error) error { return rangeError(o, off, n, err) }}, nil
}

// layoutRange fails when the file ends early.
type layoutRange struct {
	r    io.Reader
	f    *os.File
	left int64
	fail func(error) error
}

func (r *layoutRange) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.left -= int64(n)
	switch {
	case err == nil || r.left == 0:
		return n, err
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%d bytes are missing: %w", r.left, io.ErrUnexpectedEOF)
	}
	return n, r.fail(err)
}

func (r *layoutRange) Close() error { return r.f.Close() }
