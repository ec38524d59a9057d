package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7"

	"github.com/pagein/pagein/internal/atomicfile"
)

// Put stores the size bytes of r at a URL, s3://… or file:///…, that is at or below a configured place, and reports whether it had to: what is there in that size already stays, as
// objects are named by their digests. Half of an object is never seen under its name.
func (s *Storage) Put(ctx context.Context, rawURL string, r io.Reader, size int64) (sent bool, err error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return false, err
	}
	p := s.find(u)
	if p == nil || p == s.anywhere {
		return false, fmt.Errorf("store %s: %w: no storage is configured at or above it", plainURL(u), ErrForbidden)
	}
	switch u.Scheme {
	case "file":
		sent, err = putFile(ctx, u.Path, r, size)
	case "s3":
		sent, err = p.putS3(ctx, u, r, size)
	default:
		err = fmt.Errorf("%w: HTTP servers are only read; copy the object there by other means, or use s3:// or file://", errors.ErrUnsupported)
	}
	if err != nil {
		return false, fmt.Errorf("store %s: %w", plainURL(u), err)
	}
	return sent, nil
}

// putFile writes a file, has it on disk, and then gives it its name.
func putFile(ctx context.Context, path string, r io.Reader, size int64) (sent bool, err error) {
	if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Size() == size {
		return false, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- nodes read it under other users
		return false, err
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return false, err
	}
	defer f.Discard()
	if err := f.Chmod(0o644); err != nil { // whatever the umask
		return false, err
	}
	n, err := io.Copy(f, &contextReader{ctx, io.LimitReader(r, size+1)})
	if err == nil && n != size {
		err = fmt.Errorf("there are %d bytes, want %d", n, size)
	}
	if err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	if err := f.Commit(); err != nil {
		return false, err
	}
	return true, atomicfile.SyncDir(dir)
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// putS3 uploads an object, in parts if it is large.
func (c *configured) putS3(ctx context.Context, u *url.URL, r io.Reader, size int64) (sent bool, err error) {
	s, err := c.signer(u.Query())
	if err != nil {
		return false, err
	}
	key := u.Path[1:]
	have, err := s.client.StatObject(ctx, u.Host, key, minio.StatObjectOptions{})
	switch {
	case err == nil && have.Size == size:
		return false, nil
	case err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchKey:
		return false, err
	}
	_, err = s.client.PutObject(ctx, u.Host, key, r, size, minio.PutObjectOptions{ContentType: "application/octet-stream"})
	return err == nil, err
}
