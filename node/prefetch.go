package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pagein/pagein/ondemand"
)

// prefetchPause is how long a prefetch waits after it failed; it doubles up to maxPrefetchPause while it goes on failing.
const (
	prefetchPause    = time.Second
	maxPrefetchPause = time.Minute
)

// exceptions is how many misses beside hot data are no reason to guess what else will be wanted: a start never touches the very same pages twice. More of them show that the profile is of little use.
const exceptions = 24

// unboundPause is how long it waits once the kernel has the blob open, as it has while the image is mounted. It doubles up to maxPrefetchPause while what counts as open takes nothing: for a
// moment before the kernel says that it closes it, or for good in a dead cache.
const unboundPause = 10 * time.Millisecond

// prefetches are what is fetched of an image in the background. Its fields but active are guarded by the node's mu.
type prefetches struct {
	hot    chan struct{} // closed when what a profile names has been fetched; nil if that has not begun
	all    bool          // the rest was begun
	stop   []context.CancelFunc
	work   sync.WaitGroup
	active atomic.Int32
}

// running reports whether anything is fetched in the background.
func (p *prefetches) running() bool { return p.active.Load() > 0 }

// begin runs a prefetch.
func (p *prefetches) begin(run func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = append(p.stop, stop)
	p.active.Add(1)
	p.work.Go(func() {
		defer p.active.Add(-1)
		run(ctx)
	})
}

// end returns when nothing runs any more.
func (p *prefetches) end() {
	for _, stop := range p.stop {
		stop()
	}
	p.work.Wait()
}

// prefetch fetches in the background what a profile says will be read, and after that all of the image if its policy wants that, one blob after the other in device order: the first are the base layers,
// which most processes read first. The caller holds n.mu.
func (n *Node) prefetch(img *image) {
	if img.complete() {
		return
	}
	ref, blobs, p := img.Origin.Ref, img.attached.Blobs, &img.prefetches
	failed := func(err error) { n.log.Warn("prefetch is tried again", "ref", ref, "err", err) }
	if records := img.Blobs; p.hot == nil && img.hot() {
		hot := make(chan struct{})
		p.hot = hot
		for i, b := range blobs {
			if records[i].Hot == 0 {
				b.Hesitate(exceptions)
			}
		}
		p.begin(func(ctx context.Context) {
			defer close(hot)
			for i, b := range blobs {
				if insist(ctx, b, failed, func() error { return b.Stream(ctx, 0, records[i].Hot) }) != nil {
					return
				}
			}
		})
	}
	if !p.all && img.Policy.Prefetch {
		p.all = true
		began, hot := time.Now(), p.hot
		p.begin(func(ctx context.Context) {
			if hot != nil {
				<-hot // which ends when it is stopped, like this
			}
			for _, b := range blobs {
				if insist(ctx, b, failed, func() error { return b.Prefetch(ctx, 0, b.Size()) }) != nil {
					return
				}
			}
			n.log.Info("image is complete", "ref", ref, "image", img.ID, "seconds", time.Since(began).Seconds())
		})
	}
}

// insist fetches from a blob, however often that fails, until ctx is done or the blob is closed. It tells of failures when they begin.
func insist(ctx context.Context, b *ondemand.Blob, failed func(error), fetch func() error) error {
	unbound, pause := unboundPause, prefetchPause
	for {
		err := fetch()
		if err == nil || ctx.Err() != nil || errors.Is(err, ondemand.ErrClosed) {
			return err
		}
		wait := pause
		if errors.Is(err, ondemand.ErrUnbound) {
			since := time.Now()
			if err := b.AwaitBound(ctx); err != nil {
				return err
			}
			if time.Since(since) > unboundPause {
				unbound = unboundPause
			}
			wait, unbound = unbound, min(2*unbound, maxPrefetchPause)
		} else {
			if pause == prefetchPause {
				failed(err)
			}
			pause = min(2*pause, maxPrefetchPause)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
