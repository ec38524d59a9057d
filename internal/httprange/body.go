package httprange

import (
	"errors"
	"fmt"
	"io"
)

// maxDrain is how many unread bytes of an answer are worth reading to keep its connection.
const maxDrain = 32 << 10

// Body is the body of an accepted answer, exactly as long as asked for. It must be closed before the request's context is cancelled.
type Body struct {
	body   io.ReadCloser
	left   int64             // bytes that are still to come
	failed func(error) error // nil, or what becomes of an error
	closed func()            // nil, or what is to be called when it is closed
}

// OnError sets what becomes of errors of reading: the function returns the error that the reader gets.
func (b *Body) OnError(f func(error) error) { b.failed = f }

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
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
		return n, b.fail(fmt.Errorf("%d bytes are missing: %w", b.left, io.ErrUnexpectedEOF))
	case err != nil:
		return n, b.fail(err)
	}
	return n, nil
}

func (b *Body) fail(err error) error {
	if b.failed == nil {
		return err
	}
	return b.failed(err)
}

// Close reads a small remainder, so that the connection can be used again, and lets go of the answer.
func (b *Body) Close() error {
	if b.left > 0 && b.left <= maxDrain {
		_, _ = io.CopyN(io.Discard, b.body, b.left) // only the connection's fate depends on it
	}
	err := b.body.Close()
	if b.closed != nil {
		b.closed()
	}
	return err
}

// onClose has f called, besides what was to be called before, once the body is closed.
func (b *Body) onClose(f func()) {
	before := b.closed
	b.closed = func() {
		if before != nil {
			before()
		}
		f()
	}
}
