package cachefiles

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// session is Serve's work on one device.
type session struct {
	*Transport
	dev    *device
	ctx    context.Context // done when Serve's is, or when the device is let go
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing of the session runs any more
}

// Serve answers the kernel until ctx is done, and returns nil. Requests that are then unanswered stay with the kernel, which repeats them to a successor that
// has the device's descriptor; so ctx must be done before engine blobs are closed, or their readers would see errors. Blob maps must stay until Serve has
// returned. A dead cache does not end it. It is called once.
func (t *Transport) Serve(ctx context.Context) error {
	for {
		if s := t.begin(ctx); s != nil {
			s.run()
			s.end()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.revived:
		}
	}
}

// begin returns a session on the device, or nil when there is none.
func (t *Transport) begin(ctx context.Context) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.served = true
	if t.dev == nil {
		return nil
	}
	s := &session{Transport: t, dev: t.dev, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(ctx)
	t.session = s
	return s
}

// end lets go of the device if the cache is dead and nothing is mounted from it.
func (s *session) end() {
	s.cancel()
	s.mu.Lock()
	s.session = nil
	s.mu.Unlock()
	s.letGo()
	close(s.done)
}

// run answers the device until ctx is done. It returns when nothing of that is under way any more.
func (s *session) run() {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { // waited for, as the device may be closed right after
		<-s.ctx.Done()
		s.dev.interrupt()
	})
	if s.adopted {
		// Requests that a predecessor had read but not answered become new again. Its objects are closed, so the kernel opens them anew first.
		if err := s.dev.command("restore"); err != nil {
			s.fail(err) // what the kernel still has to say of its end is heard below
		}
	}
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		m, ok, err := s.next()
		if ok {
			work.Go(func() { s.handle(m) })
			continue
		}
		<-s.slots
		switch {
		case err == nil:
			return
		case fatal(err):
			s.fail(err)
			<-s.ctx.Done()
			return
		default:
			s.cfg.Log.Error("message of the kernel cannot be answered", "err", err)
		}
	}
}

// next waits for a message. Without an error ok is false only when ctx is done.
func (s *session) next() (m message, ok bool, err error) {
	for s.ctx.Err() == nil && !ok && err == nil {
		if m, ok, err = s.dev.next(); err == nil && !ok {
			err = s.dev.wait()
		}
	}
	return m, ok && err == nil, err
}

// fatal tells errors of the device, such as EIO from a cache that the kernel has given up, from those of one message: when a descriptor for an OPEN cannot
// be made, the kernel has ended that request itself.
func fatal(err error) bool {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return false
	}
	return errno != unix.EMFILE && errno != unix.ENFILE && errno != unix.ENOMEM && errno != unix.EEXIST
}
