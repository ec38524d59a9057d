package attach

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pagein/pagein/ondemand/backend"
)

const (
	// chunk is how much is asked for at a time, in bytes.
	chunk = 16 << 20
	// attempts is how often a part is asked for that brings nothing.
	attempts = 4
	// backoff is the wait before the second attempt, doubled before each further one.
	backoff = 200 * time.Millisecond
)

// Reader reads a whole object from wherever it is, for converters and copies, trying again what fails on the way. It verifies nothing.
func Reader(ctx context.Context, o backend.Object) io.ReadCloser {
	return &reader{ctx: ctx, o: o}
}

type reader struct {
	ctx  context.Context
	o    backend.Object
	off  int64
	part io.ReadCloser // nil between parts
	end  int64         // of the part
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	wait := backoff
	for attempt := 1; ; attempt++ {
		if r.off == r.o.Size() {
			return 0, io.EOF
		}
		n, err := r.try(p)
		if n > 0 {
			return n, nil
		}
		if err == nil {
			continue
		}
		after := max(wait, backend.RetryAfter(err))
		if attempt >= attempts || backend.IsPermanent(err) || r.ctx.Err() != nil {
			return 0, err
		}
		select {
		case <-time.After(after):
			wait *= 2
		case <-r.ctx.Done():
			return 0, fmt.Errorf("%w (%w)", err, context.Cause(r.ctx))
		}
	}
}

// try reads once from the part at hand, or from the next one.
func (r *reader) try(p []byte) (int, error) {
	if r.part == nil {
		n := min(r.o.Size()-r.off, chunk)
		part, err := r.o.Range(r.ctx, r.off, n)
		if err != nil {
			return 0, err
		}
		r.part, r.end = part, r.off+n
	}
	n, err := r.part.Read(p)
	r.off += int64(n)
	if err != nil || r.off == r.end {
		_ = r.part.Close() // of something read
		r.part = nil
		if r.off == r.end {
			err = nil
		}
	}
	return n, err
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.part == nil {
		return nil
	}
	return r.part.Close()
}
