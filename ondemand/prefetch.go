package ondemand

import (
	"context"
	"errors"
	"fmt"
)

// prefetchStep is how many blob bytes are on their way for a prefetch at a time.
const prefetchStep = 8 << 20

// manner is how a prefetch asks for what it wants.
type manner struct {
	most   int  // source bytes in one request
	steady bool // it does not give way to readers, and asks for more before all has come
}

// Prefetch brings the frames that overlap [off, off+n) in time in which no reader waits for anything. It returns when they
// are in the target, with the first error otherwise: unlike [Blob.Fill] it does not retry. Readers that want a frame before get it at once.
func (b *Blob) Prefetch(ctx context.Context, off, n int64) error {
	return b.prefetch(ctx, off, n, manner{most: idleRequest})
}

// Stream is Prefetch in as few requests as possible, one after the other without a pause, for what is sure to be wanted soon. It does not stop for readers who wait for something else: they share the link with it.
func (b *Blob) Stream(ctx context.Context, off, n int64) error {
	return b.prefetch(ctx, off, n, manner{most: b.engine.opts.RequestBytes, steady: true})
}

func (b *Blob) prefetch(ctx context.Context, off, n int64, how manner) error {
	end := min(off+min(n, b.Size()), b.Size())
	from := off
	var late []*fetching // of the step before
	for off < end || len(late) > 0 {
		var waits []*fetching
		if off < end {
			var err error
			if waits, off, err = b.startPrefetch(off, end, how); err != nil {
				return fmt.Errorf("prefetch blob %s: %w", b.ID(), err)
			}
		}
		early := len(waits)
		if how.steady && off < end {
			early -= early / 4
		}
		again, err := awaitPrefetch(ctx, append(late, waits[:early]...))
		switch {
		case err != nil:
			return fmt.Errorf("prefetch blob %s before %d: %w", b.ID(), off, err)
		case again:
			off, late = from, nil
			continue
		}
		if late = waits[early:]; len(late) == 0 {
			from = off
		}
	}
	return nil
}

// awaitPrefetch waits for frames, and reports whether some were given up.
func awaitPrefetch(ctx context.Context, waits []*fetching) (again bool, err error) {
	for _, f := range waits {
		select {
		case <-f.done:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		switch dropped := errors.Is(f.err, errDropped); {
		case dropped:
			again = true
		case f.err != nil:
			return false, f.err
		}
	}
	return again, nil
}

// startPrefetch has the absent frames of the next step on their way and returns them, and where the step ends.
func (b *Blob) startPrefetch(off, end int64, how manner) (waits []*fetching, next int64, err error) {
	b.binding.RLock()
	defer b.binding.RUnlock()
	if err := b.usable(); err != nil {
		return nil, 0, err
	}
	first, last, err := b.frames(off, end-off)
	if err != nil {
		return nil, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var missing []int
	size := int64(0)
	i := first
	for ; i <= last && size < prefetchStep; i++ {
		f := b.inflight[i]
		if f == nil && b.bound.presence.Has(i) {
			continue
		}
		size += int64(b.m.Frame(i).Len)
		if f != nil {
			waits = append(waits, f)
		} else {
			missing = append(missing, i)
		}
	}
	if len(missing) > 0 {
		if err := b.open(); err != nil {
			return nil, 0, err
		}
	}
	b.launchIn(missing, -1, prefetch, how)
	for _, i := range missing {
		waits = append(waits, b.inflight[i])
	}
	f := b.m.Frame(i - 1)
	return waits, f.Off + int64(f.Len), nil
}
