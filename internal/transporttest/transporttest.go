// Package transporttest has what tests put around a transport: a source object behind its engine, and a holder of its descriptors.
//
// It knows neither engines nor the kernel. The one idea to hold in mind: both are in the test's own process, which can hold them up at any moment and look at what came of it.
package transporttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// Origin is a source object in memory that counts what is asked of it, can be held up, and can fail. It may be used by several goroutines at once.
type Origin struct {
	Requests atomic.Int64 // that were made
	Bytes    atomic.Int64 // that were given out
	Broken   atomic.Bool  // requests fail

	data []byte
	gate atomic.Pointer[chan struct{}] // requests wait until it is closed; nil for no waiting
}

// NewOrigin returns a source object with these bytes.
func NewOrigin(data []byte) *Origin { return &Origin{data: data} }

// HoldUp has requests of all of them wait from now on, until release is called.
func HoldUp(all ...*Origin) (release func()) {
	gate := make(chan struct{})
	for _, o := range all {
		o.gate.Store(&gate)
	}
	return sync.OnceFunc(func() { close(gate) })
}

// Size is the object's length in bytes.
func (o *Origin) Size() int64 { return int64(len(o.data)) }

func (o *Origin) String() string { return "origin in memory" }

// Range returns n bytes at off, as backend.Object wants it.
func (o *Origin) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	o.Requests.Add(1)
	if gate := o.gate.Load(); gate != nil {
		select {
		case <-*gate:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if o.Broken.Load() {
		return nil, errors.New("the origin is broken on purpose")
	}
	o.Bytes.Add(n)
	return io.NopCloser(bytes.NewReader(o.data[off : off+n])), nil
}
