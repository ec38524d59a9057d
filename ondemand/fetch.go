package ondemand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// errTarget marks errors of the target: asking the backend again cannot mend them.
var errTarget = errors.New("write blob")

// fetch brings a run of neighbouring frames, in order, each completed as soon as it is in place. It retries what failed, and gives every frame its
// verdict exactly once.
func (b *Blob) fetch(bound *binding, run []int) {
	e := b.engine
	wait := e.opts.Backoff
	var spent time.Duration // in the backend, over all attempts
	for attempt := 1; len(run) > 0; attempt++ {
		done, err := b.attempt(bound, run, &spent)
		if run = run[done:]; len(run) == 0 {
			return
		}
		if done > 0 {
			attempt, wait = 1, e.opts.Backoff // progress was made: the next frame has tries of its own
		}
		switch {
		case b.ctx.Err() != nil:
			b.fail(run, context.Cause(b.ctx), spent)
			return
		case errors.Is(err, errTarget):
			e.log.Error("frame could not be stored", "blob", b.ID(), "frame", run[0], "err", err)
			b.fail(run, err, spent)
			return
		case attempt >= e.opts.Attempts, backend.IsPermanent(err), attempt >= corruptAttempts && errors.Is(err, blob.ErrCorrupt):
			e.log.Error("frame could not be had", "blob", b.ID(), "frame", run[0], "attempts", attempt, "err", err)
			if !errors.Is(err, blob.ErrCorrupt) {
				b.fail(run, err, spent)
				return
			}
			// One bad frame says nothing of the next.
			b.fail(run[:1], err, spent)
			run, attempt, wait = run[1:], 0, e.opts.Backoff
			continue
		}
		e.log.Warn("frame is fetched again", "blob", b.ID(), "frame", run[0], "attempt", attempt, "err", err)
		e.stats.retries.Add(1)
		pause := max(wait, backend.RetryAfter(err)) // asking earlier would only make it worse
		select {
		case <-time.After(pause):
			spent += pause
			wait = min(2*wait, maxBackoff)
		case <-b.ctx.Done():
		}
	}
}

// fail tells the readers of frames that they cannot be had.
func (b *Blob) fail(frames []int, err error, spent time.Duration) {
	b.problem.Store(&problem{frame: frames[0], err: err})
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range frames {
		b.finish(i, err, spent)
	}
}

// attempt asks the backend once for the run and returns how many of its frames came into place before it was over.
func (b *Blob) attempt(bound *binding, run []int, spent *time.Duration) (done int, err error) {
	e := b.engine
	first, last := b.m.Frame(run[0]), b.m.Frame(run[len(run)-1])
	object := b.objects[first.Source]

	queued := time.Now()
	if err := e.slots.Acquire(b.ctx, 1); err != nil {
		return 0, err
	}
	defer e.slots.Release(1)
	e.stats.active.Add(1)
	defer e.stats.active.Add(-1)
	start := time.Now()
	*spent += start.Sub(queued) // others' requests are in the way
	body, err := object.Range(b.ctx, first.SrcOff, last.SrcOff+int64(last.SrcLen)-first.SrcOff)
	waited := time.Since(start)
	*spent += waited
	e.stats.requests.Add(1)
	if err != nil {
		e.stats.errors.Add(1)
		return 0, err
	}
	defer body.Close()
	b.latency.add(waited)

	for _, i := range run {
		if err := b.bring(bound, i, body, spent); err != nil {
			if errors.Is(err, blob.ErrCorrupt) {
				backend.Reject(body)
			}
			if !errors.Is(err, errTarget) {
				e.stats.errors.Add(1)
			}
			return done, fmt.Errorf("%s: %w", object, err)
		}
		done++
	}
	return done, nil
}

// bring reads one frame from body, verifies it, writes it and completes it.
func (b *Blob) bring(bound *binding, i int, body io.Reader, spent *time.Duration) error {
	e, f := b.engine, b.m.Frame(i)
	dst := e.bufs.get(f.Len)
	defer e.bufs.put(dst)
	src := dst // a raw frame needs no other place
	if f.Codec != blob.Raw {
		src = e.bufs.get(f.SrcLen)
		defer e.bufs.put(src)
	}

	start := time.Now()
	n, err := io.ReadFull(body, src)
	*spent += time.Since(start)
	b.fetched.Add(int64(n))
	e.stats.received.Add(int64(n))
	if err != nil {
		return fmt.Errorf("read %d bytes at %d: %w", f.SrcLen, f.SrcOff, err)
	}
	if err := e.dec.Decode(dst, src, f); err != nil {
		return fmt.Errorf("frame %d (%d bytes at %d): %w", i, f.SrcLen, f.SrcOff, err)
	}
	if _, err := bound.target.WriteAt(dst, f.Off); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	bound.presence.Set(i)
	if p := b.problem.Load(); p != nil && p.frame == i {
		b.problem.CompareAndSwap(p, nil)
	}

	b.mu.Lock()
	b.finish(i, nil, *spent)
	var then func()
	if b.onDone != nil && bound.presence.Count() == b.m.Frames() {
		then, b.onDone = b.onDone, nil
	}
	b.mu.Unlock()
	if then != nil {
		then()
	}
	return nil
}
