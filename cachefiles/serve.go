package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/ondemand"
)

// Serve answers the kernel until ctx is done. Requests that are then unanswered stay with the kernel, which repeats them to a successor that has the
// device's descriptor. It returns early, with an error, only when the kernel has given the cache up. It is called once; engine blobs must be
// closed after it has returned, not before, or their readers would see errors.
func (t *Transport) Serve(ctx context.Context) error {
	t.mu.Lock()
	t.served = true
	t.mu.Unlock()
	if t.adopted {
		// Requests that a predecessor had read but not answered become new again. Its objects are closed, so the kernel opens them anew first.
		if err := t.dev.command("restore"); err != nil {
			return fmt.Errorf("serve cachefiles: take up a predecessor's requests: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, t.dev.interrupt)
	defer stop()
	for {
		if err := t.dev.wait(); err != nil {
			return fmt.Errorf("serve cachefiles: %w", err)
		}
		for {
			select {
			case t.slots <- struct{}{}:
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				return nil
			}
			m, ok, err := t.dev.next()
			if fatal(err) {
				return fmt.Errorf("serve cachefiles in %s: %w", t.cfg.Dir, err)
			}
			if err != nil {
				t.cfg.Log.Error("message of the kernel cannot be answered", "err", err)
			}
			if !ok {
				<-t.slots
				break
			}
			work.Go(func() {
				defer func() { <-t.slots }()
				t.handle(ctx, m)
			})
		}
	}
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

func (t *Transport) handle(ctx context.Context, m message) {
	switch m.op {
	case opOpen:
		t.open(ctx, m)
	case opClose:
		t.mu.Lock()
		o := t.objects[m.object]
		delete(t.objects, m.object)
		t.mu.Unlock()
		if o != nil {
			t.cfg.Log.Debug("kernel closes object", "key", o.key)
			o.close()
		}
	case opRead:
		t.read(ctx, m)
	}
}

// open answers an OPEN. The object is registered before the answer, as its first READ may come right after.
func (t *Transport) open(ctx context.Context, m message) {
	log := t.cfg.Log.With("volume", m.volume, "key", m.cookie)
	o, refusals := t.lookup(m)
	if o == nil {
		log.Warn("kernel opens an object that is not attached")
		t.refuse(ctx, m, refusals)
		return
	}
	t.mu.Lock()
	t.objects[m.object] = o
	t.mu.Unlock()
	log.Debug("kernel opens object", "bytes", o.size)
	if err := t.dev.copen(m.id, o.size); err != nil {
		// The mount may have been killed meanwhile.
		log.Warn("kernel does not take the answer to its open", "err", err)
		t.mu.Lock()
		delete(t.objects, m.object)
		t.mu.Unlock()
		o.close()
		return
	}
	if err := o.prepare(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errGone) {
		log.Error("object cannot be made ready; its reads will try again", "err", err)
	}
}

// lookup makes the object that an OPEN asks for, or returns nil and how often the key was refused before.
func (t *Transport) lookup(m message) (*object, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := &object{key: m.cookie, fd: m.fd}
	if m.volume == t.volume {
		if img := t.metas[m.cookie]; img != nil {
			o.size, o.content = img.MetaSize, meta{path: img.MetaPath}
			return o, 0
		}
		if a := t.blobs[m.cookie]; a != nil {
			o.size, o.content = a.blob.Size(), &engineBlob{blob: a.blob}
			return o, 0
		}
	}
	if len(t.refused) >= maxRefused {
		clear(t.refused)
	}
	key := m.volume + "/" + m.cookie
	t.refused[key]++
	return nil, t.refused[key] - 1
}

// maxRefused bounds the memory of refused keys.
const maxRefused = 1024

// refuse answers an OPEN with ENOENT. When the object was open before, by a predecessor, and a READ waits for it, the kernel asks again at
// once: repeated refusals are slowed down, up to two seconds each.
func (t *Transport) refuse(ctx context.Context, m message, before int) {
	if before > 0 {
		select {
		case <-time.After(min(time.Duration(before)*100*time.Millisecond, 2*time.Second)):
		case <-ctx.Done():
		}
	}
	if err := t.dev.copen(m.id, -int64(unix.ENOENT)); err != nil {
		t.cfg.Log.Warn("kernel does not take the refusal of its open", "key", m.cookie, "err", err)
	}
	_ = unix.Close(m.fd) // it was never used
}

// read answers a READ, exactly once unless ctx ends: completed without data, the kernel gives its reader EIO and asks again the next time.
func (t *Transport) read(ctx context.Context, m message) {
	t.reads.Add(1)
	t.mu.Lock()
	o := t.objects[m.object]
	t.mu.Unlock()
	if o == nil {
		t.cfg.Log.Error("kernel reads from an object that it did not open", "object", m.object)
		return
	}
	err := o.provide(ctx, m.off, m.n)
	if err != nil && ctx.Err() != nil {
		return // a successor will do it
	}
	if err != nil && !errors.Is(err, errGone) {
		t.cfg.Log.Error("read fails", "key", o.key, "off", m.off, "bytes", m.n, "err", err)
	}
	if err := o.complete(m.id); err != nil && !errors.Is(err, errGone) {
		// EINVAL: the object was dropped or the reader killed, and the request with it.
		t.cfg.Log.Debug("read was given up by the kernel", "key", o.key, "off", m.off, "err", err)
	}
}

var _ ondemand.Target = (*object)(nil)
