package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDrain is how many unread bytes of an answer are worth reading to keep its connection.
const maxDrain = 32 << 10

// Range opens bytes [off, off+n) of the blob desc. The reader yields exactly n bytes and then io.EOF, fails with io.ErrUnexpectedEOF when
// the server sends fewer, and must be closed before ctx is cancelled. Nothing is retried.
//
// Errors that callers may want to tell apart: *[StatusError], [ErrNoRange], [ErrStalled].
func (r *Repository) Range(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	wrap := func(err error) error {
		return fmt.Errorf("read bytes %d to %d of %s@%s: %w", off, off+n-1, r, desc.Digest, Explain(err))
	}
	b, err := r.open(ctx, desc, off, n)
	if err != nil {
		return nil, wrap(err)
	}
	b.wrap = wrap
	return b, nil
}

func (r *Repository) open(ctx context.Context, desc ocispec.Descriptor, off, n int64) (*body, error) {
	if off < 0 || n <= 0 || off > desc.Size-n {
		return nil, fmt.Errorf("the range is outside of its %d bytes", desc.Size)
	}
	if err := desc.Digest.Validate(); err != nil {
		return nil, err
	}
	scheme := "https"
	if r.PlainHTTP {
		scheme = "http"
	}
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", scheme, r.Reference.Host(), r.Reference.Repository, desc.Digest)
	req, err := http.NewRequestWithContext(r.withScope(ctx), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	resp, err := r.c.direct.Do(req)
	if err != nil {
		return nil, err
	}
	b := &body{body: resp.Body, left: n}
	if err := checkAnswer(resp, off, n, desc.Size); err != nil {
		b.left = resp.ContentLength // what Close may read to keep the connection
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

// checkAnswer refuses everything but exactly the range that was asked for.
func checkAnswer(resp *http.Response, off, n, size int64) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if err := checkContentRange(resp.Header.Get("Content-Range"), off, n, size); err != nil {
			return err
		}
	case http.StatusOK:
		if off != 0 || n != size {
			return ErrNoRange
		}
	default:
		return newStatusError(resp)
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return fmt.Errorf("%w: the body is encoded with %s", ErrBadAnswer, enc)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != n {
		return fmt.Errorf("%w: Content-Length is %d, want %d", ErrBadAnswer, resp.ContentLength, n)
	}
	return nil
}

// checkContentRange checks "bytes FIRST-LAST/SIZE", where SIZE may be "*".
func checkContentRange(h string, off, n, size int64) error {
	bad := fmt.Errorf("%w: Content-Range is %q, want \"bytes %d-%d/%d\"", ErrBadAnswer, h, off, off+n-1, size)
	unit, spec, _ := strings.Cut(h, " ")
	span, total, _ := strings.Cut(spec, "/")
	first, last, _ := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") {
		return bad
	}
	for _, c := range []struct {
		s    string
		want int64
	}{{first, off}, {last, off + n - 1}, {total, size}} {
		if c.s == "*" && c.want == size {
			continue
		}
		if v, err := strconv.ParseInt(c.s, 10, 64); err != nil || v != c.want {
			return bad
		}
	}
	return nil
}

// body is the answer's body, exactly as long as asked for.
type body struct {
	body io.ReadCloser
	left int64             // bytes that are still to come
	wrap func(error) error // says what was being read
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	switch {
	case b.left == 0 && (err == nil || errors.Is(err, io.EOF)):
		return n, nil
	case errors.Is(err, io.EOF):
		return n, b.wrap(fmt.Errorf("%d bytes are missing: %w", b.left, io.ErrUnexpectedEOF))
	case err != nil:
		return n, b.wrap(err)
	}
	return n, nil
}

// Close reads a small remainder, so that the connection can be used again, and lets go of the answer.
func (b *body) Close() error {
	if b.left > 0 && b.left <= maxDrain {
		_, _ = io.CopyN(io.Discard, b.body, b.left) // only the connection's fate depends on it
	}
	return b.body.Close()
}
