package ondemand

import (
	"sync/atomic"
	"time"
)

// firstAhead is how many blob bytes are fetched beyond a miss that continues nothing, when the backend is far and the link idle. Files that are used together lie
// together; docs/benchmarks.md has what it brings.
const firstAhead = 2 << 20

// near is the time to a backend's answer below which a miss that continues nothing gets nothing beyond it: what could be saved by a guess is then less than
// what it costs to decode.
const near = time.Millisecond

// busy is the number of backend requests under way from which on no more guesses are made: the link then belongs to demand.
const busy = 4

// streams is how many sequential readers of one blob are told apart.
const streams = 8

// readAhead decides how many frames beyond a miss are fetched with it. A miss where an earlier fetch ended doubles that stream's window, up to
// Options.ReadAhead; any other miss takes the place of the stream that has been idle for longest. It belongs to one blob and is guarded by its lock.
type readAhead struct {
	streams [streams]stream
	clock   uint64
}

type stream struct {
	next   int   // the frame after the last one fetched
	window int64 // bytes
	used   uint64
}

// extend returns the frames to fetch beyond missing, which is sorted and not empty. They follow its last frame, are absent and not on their way.
func (r *readAhead) extend(b *Blob, bound *binding, missing []int) []int {
	limit := b.engine.opts.ReadAhead
	if limit <= 0 {
		return nil
	}
	first, last := missing[0], missing[len(missing)-1]
	demand := b.m.Frame(last).Off + int64(b.m.Frame(last).Len) - b.m.Frame(first).Off
	s, sequential := r.pick(first)
	switch {
	case sequential:
		s.window = min(2*max(s.window, demand), limit)
	case b.latency.value() >= near && b.engine.stats.active.Load() < busy:
		s.window = min(firstAhead, limit)
	default:
		s.window = 0
	}
	r.clock++
	s.used = r.clock

	var more []int
	s.next = last + 1
	for left := s.window; s.next < b.m.Frames(); s.next++ {
		if left -= int64(b.m.Frame(s.next).Len); left < 0 || bound.presence.Has(s.next) || b.inflight[s.next] != nil {
			break
		}
		more = append(more, s.next)
	}
	return more
}

// pick returns the stream that a miss at frame first continues, or else the one to give up for it.
func (r *readAhead) pick(first int) (s *stream, sequential bool) {
	s = &r.streams[0]
	for i := range r.streams {
		c := &r.streams[i]
		if c.used > 0 && first >= c.next && first <= c.next+2 { // who skips a frame or two is still sequential
			return c, true
		}
		if c.used < s.used {
			s = c
		}
	}
	return s, false
}

// average is a moving average of durations, the last eight or so. It starts as far away, and may be used concurrently.
type average struct{ ns atomic.Int64 }

func (a *average) add(d time.Duration) {
	old := a.ns.Load()
	// An update that is lost to a concurrent one does not matter.
	a.ns.CompareAndSwap(old, max(1, old+(int64(d)-old)/8))
	if old == 0 {
		a.ns.Store(max(1, int64(d)))
	}
}

func (a *average) value() time.Duration {
	if ns := a.ns.Load(); ns != 0 {
		return time.Duration(ns)
	}
	return time.Hour
}
