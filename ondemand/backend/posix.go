package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/httprange"
)

// maxHanging bounds the calls into file systems that may hang at the same time: each holds a thread of the process until the file system answers.
const maxHanging = 64

// posixObject is a file in a directory that may be on a network: calls are bounded in time, and handles that the server has forgotten are got anew.
type posixObject struct {
	file
	calls caller
}

// caller makes calls into a file system: see [patientCalls.do].
type caller interface {
	do(ctx context.Context, call func() (undo func(), err error)) error
}

// Range implements [Object].
func (o *posixObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(o, off, n); err != nil {
		return nil, err
	}
	r := &posixRange{o: o, ctx: ctx, off: off, end: off + n, fail: func(err error) error { return rangeError(o, off, n, err) }}
	if err := r.open(); err != nil {
		return nil, r.fail(err)
	}
	return r, nil
}

// posixRange reads a range of a posixObject.
type posixRange struct {
	o        *posixObject
	ctx      context.Context
	f        *os.File // nil once somebody else closes it
	off, end int64
	stale    bool // the handle was got anew once
	buf      []byte
	fail     func(error) error
}

// open gets a handle; one that is stale at once, as after a server's restart, is got again.
func (r *posixRange) open() error {
	for again := false; ; again = true {
		var f *os.File
		err := r.o.calls.do(r.ctx, func() (undo func(), err error) {
			opened, err := r.o.open()
			if err != nil {
				return nil, err
			}
			f = opened
			return func() { _ = opened.Close() }, nil
		})
		if err == nil {
			r.f = f
			return nil
		}
		if again || !errors.Is(err, unix.ESTALE) {
			return err
		}
	}
}

// maxChunk bounds one call, in bytes, and so what a call that hangs holds.
const maxChunk = 1 << 20

// Read implements io.Reader.
func (r *posixRange) Read(p []byte) (int, error) {
	if r.off == r.end {
		return 0, io.EOF
	}
	if r.f == nil {
		return 0, r.fail(os.ErrClosed)
	}
	want := int(min(int64(len(p)), r.end-r.off, maxChunk))
	n, err := r.read(want)
	if errors.Is(err, unix.ESTALE) && !r.stale {
		r.stale = true
		_ = r.f.Close()
		if err = r.open(); err == nil {
			n, err = r.read(want)
		}
	}
	copy(p, r.buf[:n])
	r.off += int64(n)
	switch {
	case n > 0 && (err == nil || errors.Is(err, io.EOF)):
		return n, nil
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%d bytes are missing: %w", r.end-r.off, io.ErrUnexpectedEOF)
	}
	return n, r.fail(err)
}

// read reads up to n bytes into the buffer, which belongs to the call until it ends: a call that is given up may write into it later.
func (r *posixRange) read(n int) (int, error) {
	if len(r.buf) < n {
		r.buf = make([]byte, n)
	}
	var got int // the call's, like the buffer
	f, buf, off := r.f, r.buf[:n], r.off
	err := r.o.calls.do(r.ctx, func() (func(), error) {
		var err error
		got, err = f.ReadAt(buf, off)
		return func() { _ = f.Close() }, err
	})
	if errors.Is(err, errGivenUp) {
		r.f, r.buf = nil, nil
		return 0, err
	}
	return got, err
}

// Close implements io.Closer.
func (r *posixRange) Close() error {
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}

// patientCalls makes calls that may hang in the kernel, such as those into a network file system whose server is gone, and gives up on them.
type patientCalls struct {
	patience time.Duration
	slots    chan struct{}
}

func newPatientCalls(patience time.Duration) *patientCalls {
	return &patientCalls{patience: patience, slots: make(chan struct{}, maxHanging)}
}

// errGivenUp says that a call goes on without anybody who waits for it.
var errGivenUp = errors.New("given up")

// do makes the call. If it takes too long, or ctx ends, do returns errGivenUp with the reason, and when the call ends after all, what it has achieved is undone by the
// function that it returned. Until then its variables must not be used. When too many calls hang, this one is not made at all, which is another error.
func (c *patientCalls) do(ctx context.Context, call func() (undo func(), err error)) error {
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case c.slots <- struct{}{}:
	case <-timer.C:
		return fmt.Errorf("%w for %s: %d calls into file systems hang", httprange.ErrStalled, c.patience, maxHanging)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var (
		mu       sync.Mutex
		givenUp  bool
		finished = make(chan error, 1)
	)
	go func() { // its owner is the file system: nothing else can end it
		undo, err := call()
		<-c.slots
		mu.Lock()
		defer mu.Unlock()
		if givenUp && undo != nil {
			undo()
		}
		finished <- err
	}()
	reason := httprange.ErrStalled
	select {
	case err := <-finished:
		return err
	case <-timer.C:
		reason = fmt.Errorf("%w for %s", reason, c.patience)
	case <-ctx.Done():
		reason = context.Cause(ctx)
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case err := <-finished: // after all
		return err
	default:
		givenUp = true
		return fmt.Errorf("%w: %w", errGivenUp, reason)
	}
}
