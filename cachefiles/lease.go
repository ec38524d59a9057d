package cachefiles

import (
	"context"
	"errors"
	"sync"
)

// errDetached is what those get who still ask for bytes of what was detached: readers that were killed, and mounts that failed.
var errDetached = errors.New("the image is detached")

// lease lets handlers touch what was attached for as long as it is: the maps of detached blobs are unmapped, and whoever still walked one would crash the
// daemon. It ends by cutting its users off, not by waiting for the network or for the kernel to close its objects.
type lease struct {
	ctx    context.Context // done with errDetached once the lease has ended
	cancel context.CancelCauseFunc

	mu   sync.Mutex // so that nobody begins once end waits
	work sync.WaitGroup
}

func newLease() *lease {
	l := &lease{}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	return l
}

// use calls f with a context that also ends with the lease, or returns errDetached when it has ended. f must return soon after its context is done.
func (l *lease) use(ctx context.Context, f func(context.Context) error) error {
	l.mu.Lock()
	if l.ctx.Err() != nil {
		l.mu.Unlock()
		return errDetached
	}
	l.work.Add(1)
	l.mu.Unlock()
	defer l.work.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(errDetached) })()
	return f(ctx)
}

// end cuts all users off. When it returns none is left.
func (l *lease) end() {
	l.mu.Lock()
	l.cancel(errDetached)
	l.mu.Unlock()
	l.work.Wait()
}

// leased is content that is out of reach once its lease has ended, though the kernel may have the object open for longer.
type leased struct {
	content content
	lease   *lease
}

func (c leased) prepare(ctx context.Context, o *object) error {
	return c.lease.use(ctx, func(ctx context.Context) error { return c.content.prepare(ctx, o) })
}

func (c leased) fill(ctx context.Context, o *object, off, n int64) error {
	return c.lease.use(ctx, func(ctx context.Context) error { return c.content.fill(ctx, o, off, n) })
}

// closed needs no lease: it touches nothing that ends with it.
func (c leased) closed(o *object) { c.content.closed(o) }
