package attach

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/pagein/pagein/ondemand/backend"
)

// shaky is an object whose ranges end early.
type shaky struct {
	content []byte
	asked   int
	err     error
}

func (s *shaky) Size() int64    { return int64(len(s.content)) }
func (s *shaky) String() string { return "a shaky object" }
func (s *shaky) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	s.asked++
	if s.err != nil {
		return nil, s.err
	}
	if s.asked%2 == 1 {
		return io.NopCloser(io.MultiReader(bytes.NewReader(s.content[off:off+n/2]), failing{})), nil
	}
	return io.NopCloser(bytes.NewReader(s.content[off : off+n])), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestReaderGoesOnWhereItStopped(t *testing.T) {
	o := &shaky{content: bytes.Repeat([]byte("0123456789"), 4_000_000)}
	r := Reader(context.Background(), o)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, o.content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if o.asked < 3 {
		t.Errorf("asked %d times", o.asked)
	}
}

func TestReaderDoesNotInsist(t *testing.T) {
	o := &shaky{content: make([]byte, 10), err: backend.ErrForbidden}
	if _, err := io.ReadAll(Reader(context.Background(), o)); !errors.Is(err, backend.ErrForbidden) || o.asked != 1 {
		t.Errorf("asked %d times: %v", o.asked, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	o = &shaky{content: make([]byte, 10), err: io.ErrUnexpectedEOF}
	if _, err := io.ReadAll(Reader(ctx, o)); err == nil || o.asked != 1 {
		t.Errorf("asked %d times: %v", o.asked, err)
	}
}
