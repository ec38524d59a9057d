package ondemand

import (
	"context"
	"io"
	"time"

	"github.com/pagein/pagein/ondemand/backend"
)

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

// spare takes a slot of the host and one of the engine for a second request, if both have one to spare and the budget allows it. The returned function gives them back.
func (s *source) spare(e *Engine) (release func(), ok bool) {
	host := s.lane.slots.spare()
	if host == nil {
		return nil, false
	}
	ours := e.slots.spare()
	if ours == nil || !s.lane.spend() {
		s.lane.slots.release(host)
		if ours != nil {
			e.slots.release(ours)
		}
		return nil, false
	}
	return func() {
		e.slots.release(ours)
		s.lane.slots.release(host)
	}, true
}

// open asks for a range. If readers wait and the answer takes longer than nearly all lately did, it asks a second time and takes what comes first.
func (s *source) open(ctx context.Context, b *Blob, c class, off, n int64) (io.ReadCloser, error) {
	start := time.Now()
	body, err := s.openHedged(ctx, b, c, off, n)
	if err == nil {
		took := time.Since(start)
		s.lane.latency.add(took)
		s.stats.latency.Observe(took.Seconds())
	}
	return body, err
}

func (s *source) openHedged(ctx context.Context, b *Blob, c class, off, n int64) (io.ReadCloser, error) {
	s.lane.earn()
	late := s.lane.latency.late()
	if c != demand || late == 0 {
		return s.Range(ctx, off, n)
	}
	answers := make(chan answer, 2)
	var cancels []context.CancelFunc
	ask := func(second bool) {
		ctx, cancel := context.WithCancel(ctx)
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
	release := func() {}
	for {
		select {
		case <-timer.C:
			if r, ok := s.spare(b.engine); ok {
				release = r
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
				release()
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
				b.work.Go(func() {
					discard(loser, answers)
					release()
				})
			} else {
				release()
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
