package cachefiles

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/ondemand"
)

var _ ondemand.Target = (*object)(nil)

// handle answers a message and gives its slot back.
func (s *session) handle(m message) {
	free := sync.OnceFunc(func() { <-s.slots })
	defer free()
	switch m.op {
	case opOpen:
		s.open(m)
	case opClose:
		if o := s.forget(m.object); o != nil {
			s.cfg.Log.Debug("kernel closes object", "key", o.key)
			o.close()
		}
	case opRead:
		s.read(m, free)
	}
}

// forget takes the object off the list of what the kernel has open and returns it, or nil if it was not there.
func (s *session) forget(id uint32) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[id]
	if o != nil {
		delete(s.objects, id)
		s.noteClosed(o.key)
	}
	return o
}

// open answers an OPEN. The object is registered before the answer, as its first READ may come right after.
func (s *session) open(m message) {
	log := s.cfg.Log.With("volume", m.volume, "key", m.cookie)
	o, refusals := s.lookup(m)
	if o == nil {
		log.Warn("kernel opens an object that is not attached")
		s.refuse(m, refusals)
		return
	}
	s.mu.Lock()
	s.objects[m.object] = o
	s.mu.Unlock()
	log.Debug("kernel opens object", "bytes", o.size)
	if err := s.copen(m.id, o.size); err != nil {
		// The mount may have been killed meanwhile.
		log.Warn("kernel does not take the answer to its open", "err", err)
		s.forget(m.object)
		o.close()
		return
	}
	if err := o.prepare(s.ctx); err != nil && s.ctx.Err() == nil && !abandoned(err) {
		log.Error("object cannot be made ready; its reads will try again", "err", err)
	}
}

// copen answers an OPEN, which a dead cache does not take.
func (s *session) copen(id uint32, size int64) error {
	err := s.dev.copen(id, size)
	if errors.Is(err, unix.EIO) {
		s.fail(err)
	}
	return err
}

// abandoned reports whether err only says that nobody needs the bytes any more: the kernel has closed the object, or its image was detached.
func abandoned(err error) bool {
	return errors.Is(err, ondemand.ErrUnbound) || errors.Is(err, errDetached) || errors.Is(err, ondemand.ErrClosed)
}

// lookup makes the object that an OPEN asks for, or returns nil and how often the key was refused before.
func (t *Transport) lookup(m message) (*object, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := &object{key: m.cookie, fd: m.fd}
	if m.volume == t.volume {
		if img := t.metas[m.cookie]; img != nil {
			o.size, o.content = img.MetaSize, leased{meta{path: img.MetaPath}, img.lease}
			return o, 0
		}
		if a := t.blobs[m.cookie]; a != nil {
			o.size, o.content = a.blob.Size(), leased{&engineBlob{blob: a.blob}, a.lease}
			return o, 0
		}
	}
	if len(t.refused) >= maxRefused {
		clear(t.refused)
	}
	key := refusedKey(m.volume, m.cookie)
	t.refused[key]++
	return nil, t.refused[key] - 1
}

// maxRefused bounds the memory of refused keys.
const maxRefused = 1024

func refusedKey(volume, cookie string) string { return volume + "/" + cookie }

// refuse answers an OPEN with ENOENT. When the object was open before, by a predecessor, and a READ waits for it, the kernel asks again at
// once: repeated refusals are slowed down, up to two seconds each.
func (s *session) refuse(m message, before int) {
	if before > 0 {
		select {
		case <-time.After(min(time.Duration(before)*100*time.Millisecond, 2*time.Second)):
		case <-s.ctx.Done():
		}
	}
	if err := s.copen(m.id, -int64(unix.ENOENT)); err != nil {
		s.cfg.Log.Warn("kernel does not take the refusal of its open", "key", m.cookie, "err", err)
	}
	_ = unix.Close(m.fd) // it was never used
}

// read answers a READ, exactly once unless ctx ends: completed without data, the kernel gives its reader EIO and asks again the next time.
func (s *session) read(m message, free func()) {
	s.reads.Add(1)
	s.mu.Lock()
	o := s.objects[m.object]
	s.mu.Unlock()
	if o == nil {
		s.cfg.Log.Error("kernel reads from an object that it did not open", "object", m.object)
		return
	}
	err := s.provide(o, m, free)
	if err != nil && s.ctx.Err() != nil {
		return // a successor will do it
	}
	if err != nil && !abandoned(err) {
		if untold, ok := o.denials.Tell(); ok {
			s.cfg.Log.Error("reader gets an error", "key", o.key, "offset", m.off, "bytes", m.n, "earlier", untold, "err", err)
		}
	}
	if err := o.complete(m.id); err != nil && !errors.Is(err, errGone) {
		// EINVAL: the object was dropped or the reader killed, and the request with it.
		s.cfg.Log.Debug("read was given up by the kernel", "key", o.key, "off", m.off, "err", err)
	}
}

// provide has the range of a READ in place. It calls free before it waits for the engine.
func (s *session) provide(o *object, m message, free func()) error {
	ok, err := o.present(s.ctx, m.off, m.n)
	if ok || err != nil {
		return err
	}
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	free()
	return o.provide(s.ctx, m.off, m.n)
}
