package node

import (
	"context"
	"errors"
	"time"

	"github.com/pagein/pagein/ondemand"
)

// prefetchPause is how long a prefetch waits after it failed; it doubles up to maxPrefetchPause while it goes on failing.
const (
	prefetchPause    = time.Second
	maxPrefetchPause = time.Minute
)

// prefetch fetches the image in the background if its policy wants that, one blob after the other in device order: the first are the base layers, which most processes
// read first. The caller holds n.mu.
func (n *Node) prefetch(img *image) {
	if !img.Policy.Prefetch || img.prefetchStopped != nil || img.complete() {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	img.stopPrefetch, img.prefetchStopped = stop, make(chan struct{})
	img.prefetching.Store(true)
	blobs, ref := img.attached.Blobs, img.Origin.Ref
	go func() {
		defer close(img.prefetchStopped)
		defer img.prefetching.Store(false)
		defer stop()
		began := time.Now()
		for _, b := range blobs {
			if err := prefetchBlob(ctx, b, func(err error) { n.log.Warn("prefetch is tried again", "ref", ref, "err", err) }); err != nil {
				return
			}
		}
		n.log.Info("image is complete", "ref", ref, "image", img.ID, "seconds", time.Since(began).Seconds())
	}()
}

// prefetchBlob brings the whole blob, however often that fails, until ctx is done or the blob is closed. It tells of failures when they begin.
func prefetchBlob(ctx context.Context, b *ondemand.Blob, failed func(error)) error {
	for pause := prefetchPause; ; pause = min(2*pause, maxPrefetchPause) {
		err := b.Prefetch(ctx, 0, b.Size())
		if err == nil || ctx.Err() != nil || errors.Is(err, ondemand.ErrClosed) {
			return err
		}
		if pause == prefetchPause && !errors.Is(err, ondemand.ErrUnbound) { // the kernel opens it soon
			failed(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// endPrefetch returns when no prefetch of the image runs any more.
func (img *image) endPrefetch() {
	if img.prefetchStopped != nil {
		img.stopPrefetch()
		<-img.prefetchStopped
	}
}
