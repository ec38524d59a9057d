package ondemand

import (
	"sync/atomic"
	"time"
)

// patience is how many misses in a region are a reason to guess more around the next ones. A program that starts misses here and there without wanting all that
// lies between: doubling at each miss, the demo took 0.78 s until it was ready and 8.4 s to its output, with 8 misses it takes 0.59 s and 6.9 s.
const patience = 8

// enough is the part of a region from which on nothing more of it is guessed, in eighths: few of the frames that are left will be wanted before readers come to them.
const enough = 7

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

// readAhead decides which frames besides a miss are fetched. A miss where an earlier fetch ended begins a stream: so many bytes, the window, are kept
// there or on their way before its reader, and whenever it has to wait all the same they double, up to Options.ReadAhead. Any other miss takes the place of the stream that has been
// idle for longest, and is a reason to guess around it. It belongs to one blob and is guarded by its lock, but for marks.
type readAhead struct {
	streams [streams]stream
	marks   [streams]atomic.Int64 // the first frame of each stream whose reader wants more, 0 for none
	clock   uint64
	misses  map[int64]int // by region
	sure    int           // so many misses are known to be exceptions, around and behind which nothing is guessed
}

type stream struct {
	next   int   // the frame behind the last one of the window
	window int64 // bytes
	used   uint64
}

// windowParts is in how many parts a window is fetched. The next one is asked for when the reader is through with the first: so the link is busy with the others meanwhile, also if
// all of them arrive at the same time, as they do over one link.
const windowParts = 4

// markFrames is how wide a mark is: a reader in order is seen in one of so many frames, others hardly ever.
const markFrames = 4

// Hesitate has nothing be guessed around the next so many misses that continue nothing, or one other miss: what the blob's readers want is known to be elsewhere, but for exceptions.
func (b *Blob) Hesitate(misses int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ahead.sure = misses
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
	if sequential && s.window == 0 && r.sure > 0 { // two exceptions often lie side by side, three hardly ever
		r.sure--
		s.window, s.next = int64(b.m.Frame(last).Len), last+1
		return guess{}
	}
	if sequential {
		end := b.m.Frame(last).Off + int64(b.m.Frame(last).Len)
		s.window = min(2*max(s.window, end-b.m.Frame(first).Off), limit)
		s.next = last + 1
		return guess{frames: r.advance(b, s, end), class: ahead}
	}
	s.window, s.next = 0, last+1
	r.mark(s, 0)
	if r.sure > 0 {
		r.sure--
		return guess{}
	}
	src := b.sources[b.m.Frame(first).Source]
	if b.engine.opts.ReadAround <= 0 || src.lane.latency.mean.value() < near || b.engine.gate.waiting() >= busy {
		return guess{}
	}
	var g guess
	g.class = around
	g.frames, g.elsewhere = r.around(b, first, last)
	if n := len(g.frames); n > 0 {
		s.window, s.next = min(b.engine.opts.ReadAround, limit), g.frames[n-1]+1
	}
	return g
}

// advance has the window of a stream reach from, in bytes, so far, and returns what is absent of what was added to it.
func (r *readAhead) advance(b *Blob, s *stream, from int64) (more []int) {
	end := from + s.window
	for ; s.next < b.m.Frames() && b.m.Frame(s.next).Off < end; s.next++ {
		if b.absent(s.next) {
			more = append(more, s.next)
		}
	}
	if s.next == b.m.Frames() {
		r.mark(s, 0) // there is nothing more to want
	} else {
		r.mark(s, b.m.Find(end-s.window/windowParts*(windowParts-1)))
	}
	return more
}

// mark has the stream go on when somebody reads around a frame, 0 for not at all.
func (r *readAhead) mark(s *stream, frame int) {
	for i := range r.streams {
		if s == &r.streams[i] {
			r.marks[i].Store(int64(frame))
		}
	}
}

// marked returns the stream that goes on now that somebody reads frames first to last, or -1. It needs no lock: what is there already is read often.
func (r *readAhead) marked(first, last int) int {
	for k := range r.marks {
		if m := int(r.marks[k].Load()); m != 0 && m <= last && first < m+markFrames {
			return k
		}
	}
	return -1
}

// reached is told that somebody reads frames which are there, or waits for them as they are on their way, and fetches what is to be before a reader that gets on. The caller
// holds b.binding and b.mu.
func (r *readAhead) reached(b *Blob, first, last int, waits bool) {
	k := r.marked(first, last)
	if k < 0 {
		return
	}
	s := &r.streams[k]
	r.clock++
	s.used = r.clock
	if waits { // for who does not, it is wide enough
		s.window = min(2*s.window, b.engine.opts.ReadAhead)
	}
	b.launch(r.advance(b, s, b.m.Frame(int(r.marks[k].Load())).Off), -1, ahead)
}

// around guesses which frames of the region of a miss will be wanted: so many bytes beyond it, and from the region's beginning if they reach its end. Files that are used together lie
// together; and every patience further misses in a region double the guess, until most of it is streamed.
func (r *readAhead) around(b *Blob, first, last int) (beyond, before []int) {
	at := b.m.Frame(last).Off
	begin := at / region * region
	if r.misses == nil || len(r.misses) >= maxRegions {
		r.misses = make(map[int64]int)
	}
	n := r.misses[begin]
	r.misses[begin]++
	from, to := b.m.Find(begin), b.m.Frames()
	if begin+region < b.Size() {
		to = b.m.Find(begin + region)
	}
	left := min(b.engine.opts.ReadAround<<min(n/patience, 16), b.lacking(from, to))
	take := func(from, to int) (frames []int) {
		for i := from; i < to && left > 0; i++ {
			if b.absent(i) {
				left -= int64(b.m.Frame(i).Len)
				frames = append(frames, i)
			}
		}
		return frames
	}
	beyond = take(last+1, to)
	return beyond, take(from, first)
}

// lacking is how many bytes of frames [from, to) are absent of those that may be guessed, not counting the last eighth. The caller holds b.binding and b.mu.
func (b *Blob) lacking(from, to int) (bytes int64) {
	for i := from; i < to; i++ {
		n := int64(b.m.Frame(i).Len)
		bytes += n * enough / 8
		if !b.absent(i) {
			bytes -= n
		}
	}
	return bytes
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
