package ondemand

import (
	"context"
	"errors"
	"fmt"
)

// prefetchStep is how many blob bytes are on their way for a prefetch at a time.
const prefetchStep = 8 << 20

// Prefetch brings the frames that overlap [off, off+n) in time in which no reader waits for anything. It returns when they
// are in the target, with the first error otherwise: unlike [Blob.Fill] it does not retry. Readers that want a frame before get it at once.
func (b *Blob) Prefetch(ctx context.Context, off, n int64) error {
	return b.prefetch(ctx, off, n, idleRequest)
}

// Stream is Prefetch in as few requests as possible, for what will be wanted soon: one that is under way delays readers a little longer.
func (b *Blob) Stream(ctx context.Context, off, n int64) error {
	return b.prefetch(ctx, off, n, b.engine.opts.RequestBytes)
}

func (b *Blob) prefetch(ctx context.Context, off, n int64, most int) error {
	end := min(off+min(n, b.Size()), b.Size())
	for off < end {
		waits, next, err := b.startPrefetch(off, end, most)
		if err != nil {
			return fmt.Errorf("prefetch blob %s: %w", b.ID(), err)
		}
		again := false
		for _, f := range waits {
			select {
			case <-f.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			switch dropped := errors.Is(f.err, errDropped); {
			case dropped:
				again = true
			case f.err != nil:
				return fmt.Errorf("prefetch blob %s at %d: %w", b.ID(), off, f.err)
			}
		}
		if !again {
			off = next
		}
	}
	return nil
}

// startPrefetch has the absent frames of the next step on their way and returns them, and where the step ends.
func (b *Blob) startPrefetch(off, end int64, most int) (waits []*fetching, next int64, err error) {
	b.binding.RLock()
	defer b.binding.RUnlock()
	if err := b.fillable(); err != nil {
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
	b.launchIn(missing, -1, prefetch, most)
	for _, i := range missing {
		waits = append(waits, b.inflight[i])
	}
	f := b.m.Frame(i - 1)
	return waits, f.Off + int64(f.Len), nil
}
