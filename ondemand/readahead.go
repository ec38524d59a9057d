package ondemand

import "time"

// firstAround is how many blob bytes are guessed around the first miss in a region, when the backend is far and the link idle. Files that are used together lie
// together. Every patience further misses there double it, until the whole region is streamed.
const firstAround = 2 << 20

// patience is how many misses in a region are a reason to guess more around the next ones. A program that starts misses here and there without wanting all that
// lies between: doubling at each miss, the demo took 0.78 s until it was ready and 8.4 s to its output, with 8 misses it takes 0.59 s and 6.9 s.
const patience = 8

// region is the stretch of a blob, in bytes, in which misses count together.
const region = 32 << 20

// near is the time to a backend's answer below which a miss that continues nothing gets nothing beyond it: what could be saved by a guess is then less than
// what it costs to decode.
const near = time.Millisecond

// busy is the number of backend requests for readers under way from which on no more guesses are made: the link then belongs to demand.
const busy = 4

// streams is how many sequential readers of one blob are told apart.
const streams = 8

// maxRegions bounds how many regions' misses are counted.
const maxRegions = 1024

// readAhead decides which frames besides a miss are fetched. A miss where an earlier fetch ended doubles that stream's window, up to
// Options.ReadAhead; any other miss takes the place of the stream that has been idle for longest, and is a reason to guess around it. It belongs to one
// blob and is guarded by its lock.
type readAhead struct {
	streams [streams]stream
	clock   uint64
	misses  map[int64]int // by region
}

type stream struct {
	next   int   // the frame after the last one fetched
	mark   int   // a reader that waits for this frame or a later one wants the next window
	window int64 // bytes
	used   uint64
}

// guess is what to fetch besides a miss.
type guess struct {
	frames    []int // sorted, beyond the miss
	class     class // of those
	elsewhere []int // sorted, in its region, to be fetched in idle time
}

// extend decides what to fetch besides missing, which is sorted and not empty: frames that are absent and not on their way.
func (r *readAhead) extend(b *Blob, missing []int) guess {
	limit := b.engine.opts.ReadAhead
	first, last := missing[0], missing[len(missing)-1]
	if limit <= 0 {
		return guess{}
	}
	s, sequential := r.pick(first)
	r.clock++
	s.used = r.clock
	if sequential {
		length := b.m.Frame(last).Off + int64(b.m.Frame(last).Len) - b.m.Frame(first).Off
		s.window = min(2*max(s.window, length), limit)
		s.next = last + 1
		return guess{frames: s.advance(b), class: ahead}
	}
	s.window, s.next, s.mark = 0, last+1, b.m.Frames()
	src := b.sources[b.m.Frame(first).Source]
	if src.lane.latency.mean.value() < near || b.engine.gate.waiting() >= busy {
		return guess{}
	}
	var g guess
	g.class = around
	g.frames, g.elsewhere = r.around(b, first, last)
	if n := len(g.frames); n > 0 {
		s.window, s.next = min(firstAround, limit), g.frames[n-1]+1
	}
	return g
}

// advance takes the next window of a stream.
func (s *stream) advance(b *Blob) []int {
	var more []int
	s.mark = b.m.Frames()
	half := s.window / 2
	left := s.window
	for ; s.next < b.m.Frames(); s.next++ {
		if left -= int64(b.m.Frame(s.next).Len); left < 0 || !b.absent(s.next) {
			break
		}
		if left <= half && s.mark == b.m.Frames() {
			s.mark = s.next
		}
		more = append(more, s.next)
	}
	return more
}

// reached is told that a reader waits for frame i, which is on its way. When that is in the second half of a stream's window, the next window is fetched, so
// that the reader does not outrun it.
func (r *readAhead) reached(b *Blob, i int) {
	for k := range r.streams {
		s := &r.streams[k]
		if s.used == 0 || i < s.mark || i >= s.next {
			continue
		}
		r.clock++
		s.used = r.clock
		s.window = min(2*s.window, b.engine.opts.ReadAhead)
		b.launch(s.advance(b), -1, ahead)
		return
	}
}

// around guesses which frames of the region of a miss will be wanted: so many bytes beyond it, and from the region's beginning if they reach its end.
func (r *readAhead) around(b *Blob, first, last int) (beyond, before []int) {
	at := b.m.Frame(last).Off
	begin := at / region * region
	if r.misses == nil || len(r.misses) >= maxRegions {
		r.misses = make(map[int64]int)
	}
	n := r.misses[begin]
	r.misses[begin]++
	left := min(firstAround<<min(n/patience, 8), int64(region))
	take := func(from, to int) (frames []int) {
		for i := from; i < to && left > 0; i++ {
			if b.absent(i) {
				left -= int64(b.m.Frame(i).Len)
				frames = append(frames, i)
			}
		}
		return frames
	}
	end := b.m.Frames()
	if begin+region < b.Size() {
		end = b.m.Find(begin + region)
	}
	beyond = take(last+1, end)
	return beyond, take(b.m.Find(begin), first)
}

// absent reports whether a frame is neither there nor on its way. The caller holds b.binding and b.mu.
func (b *Blob) absent(i int) bool { return b.inflight[i] == nil && !b.bound.presence.Has(i) }

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
