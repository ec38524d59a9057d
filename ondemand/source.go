package ondemand

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/pagein/pagein/ondemand/backend"
)

// source is a source object, and what is known of where it is read from.
type source struct {
	backend.Object
	lane  *lane
	stats *sourceStats // of its kind of backend
}

// lane is what all objects of one host share.
type lane struct {
	slots   *slots
	limit   *rate.Limiter // nil without a limit
	latency latencies     // until an answer begins

	mu      sync.Mutex
	credits float64 // hedged requests that may be made
}

func (e *Engine) source(o backend.Object) *source {
	kind, host := backend.Site(o)
	e.mu.Lock()
	defer e.mu.Unlock()
	key := kind + " " + host
	l := e.lanes[key]
	if l == nil {
		l = &lane{slots: newSlots(e.opts.HostRequests)}
		if bytes := e.opts.HostBandwidth; bytes > 0 && host != "" {
			l.limit = rate.NewLimiter(rate.Limit(bytes), int(max(bytes/10, 64<<10)))
		}
		e.lanes[key] = l
	}
	s := e.kinds[kind]
	if s == nil {
		s = newSourceStats()
		e.kinds[kind] = s
	}
	return &source{Object: o, lane: l, stats: s}
}

// pace waits until n more bytes may be read.
func (l *lane) pace(ctx context.Context, n int) error {
	if l.limit == nil {
		return nil
	}
	for n > 0 {
		step := min(n, l.limit.Burst())
		if err := l.limit.WaitN(ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

const (
	// hedgeShare is how many second requests are made at most, as a part of all.
	hedgeShare = 0.05
	// maxCredits bounds how many of them may come together after a quiet time.
	maxCredits = 4
	// minHedge is the least time after which a second request is made: sooner it would cost more than it saves.
	minHedge = 5 * time.Millisecond
)

// earn counts a request, which pays for a part of a hedged one.
func (l *lane) earn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.credits = min(l.credits+hedgeShare, maxCredits)
}

// spend takes the credit for a second request, if there is one.
func (l *lane) spend() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.credits < 1 {
		return false
	}
	l.credits--
	return true
}

// answer is what a request brought.
type answer struct {
	body   io.ReadCloser
	err    error
	cancel context.CancelFunc
	second bool
}

// answeredBody ends its request's context after it is closed.
type answeredBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b *answeredBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// Reject passes the verdict on to the source.
func (b *answeredBody) Reject() { backend.Reject(b.ReadCloser) }

// open asks for a range. If readers wait and the answer takes longer than nearly all lately did, it asks a second time and takes what comes first.
func (s *source) open(b *Blob, c class, off, n int64) (io.ReadCloser, error) {
	start := time.Now()
	body, err := s.openHedged(b, c, off, n)
	if err == nil {
		took := time.Since(start)
		s.lane.latency.add(took)
		s.stats.latency.Observe(took.Seconds())
	}
	return body, err
}

func (s *source) openHedged(b *Blob, c class, off, n int64) (io.ReadCloser, error) {
	s.lane.earn()
	late := s.lane.latency.late()
	if c != demand || late == 0 {
		return s.Range(b.ctx, off, n)
	}
	answers := make(chan answer, 2)
	var cancels []context.CancelFunc
	ask := func(second bool) {
		ctx, cancel := context.WithCancel(b.ctx)
		cancels = append(cancels, cancel)
		b.work.Go(func() {
			body, err := s.Range(ctx, off, n)
			answers <- answer{body, err, cancel, second}
		})
	}
	ask(false)
	timer := time.NewTimer(late)
	defer timer.Stop()
	pending := 1
	for {
		select {
		case <-timer.C:
			if s.lane.spend() {
				s.stats.hedges.Add(1)
				s.stats.requests[c].Add(1)
				ask(true)
				pending++
			}
		case a := <-answers:
			pending--
			if a.err != nil {
				a.cancel()
				if pending > 0 {
					continue
				}
				return nil, a.err
			}
			if a.second {
				s.stats.hedgesWon.Add(1)
			}
			if pending > 0 {
				loser := cancels[0]
				if !a.second {
					loser = cancels[1]
				}
				b.work.Go(func() { discard(loser, answers) })
			}
			return &answeredBody{a.body, a.cancel}, nil
		}
	}
}

// discard ends the slower of two requests.
func discard(cancel context.CancelFunc, answers <-chan answer) {
	cancel()
	if a := <-answers; a.err == nil {
		a.body.Close()
	}
}

// latencies remembers how long answers took to begin. It may be used concurrently.
type latencies struct {
	mean average

	mu     sync.Mutex
	recent [recentLatencies]time.Duration
	n      int
	tail   atomic.Int64 // nanoseconds: what one in twenty of the recent ones exceeded; 0 while too few are known
}

// recentLatencies is how many answers the tail is taken from, and recountLatencies how often.
const (
	recentLatencies  = 128
	recountLatencies = 16
)

func (l *latencies) add(d time.Duration) {
	l.mean.add(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recent[l.n%recentLatencies] = d
	if l.n++; l.n%recountLatencies == 0 {
		l.tail.Store(int64(percentile(l.recent[:min(l.n, recentLatencies)], 95)))
	}
}

// late is how long to wait for an answer before asking again, 0 for never. It is half as long again as what one in twenty exceeds: those that are merely a little late
// would use up the budget.
func (l *latencies) late() time.Duration {
	tail := time.Duration(l.tail.Load())
	if tail == 0 || l.mean.value() < near {
		return 0
	}
	return max(tail+tail/2, minHedge)
}
