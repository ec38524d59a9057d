package ondemand

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/timeline"
)

// Blob is one blob that the engine can fill. Its methods may be called concurrently.
type Blob struct {
	engine   *Engine
	m        *blob.Map
	sources  []*source
	fetched  atomic.Int64 // source bytes received
	problem  atomic.Pointer[Problem]
	deadline atomic.Int64 // nanoseconds, as SetDeadline has it
	ctx      context.Context
	cancel   context.CancelCauseFunc
	work     sync.WaitGroup // running fetches

	// binding is read-locked while the target or the presence is in use.
	binding sync.RWMutex
	bound   *binding      // nil before Bind and after Close
	rebound chan struct{} // closed by the next Bind
	closed  bool          // the map may be gone

	mu       sync.Mutex        // may be taken with binding held, not the other way round
	inflight map[int]*fetching // frames on their way, by index
	ahead    readAhead
	onDone   func()
	hand     int // where the search for frames to discard goes on

	used   []atomic.Uint32 // one bit per frame: somebody wanted it since the hand passed
	wanted atomic.Int64    // when somebody last wanted a frame, in nanoseconds since 1970

	observed observed
}

type binding struct {
	target   Target
	presence Presence
	room     func() bool // makes room for another write, nil if nobody can
	space    *space
	closed   atomic.Bool // nothing can be written to the target any more
}

// fetching is a frame on its way. done is closed once err and cost are final.
type fetching struct {
	job  *job // guarded by the blob's mu
	done chan struct{}
	err  error
	cost timeline.Cost // of the fetch until this frame was complete, over all attempts
}

// ID is the blob's name: 64 hex digits, the device tag and the cookie key.
func (b *Blob) ID() string { return b.m.ID() }

// Map is the blob's frame table.
func (b *Blob) Map() *blob.Map { return b.m }

// Size is the length of the blob's address space in bytes, a multiple of 4096.
func (b *Blob) Size() int64 { return b.m.Size() }

// Fetched is the number of source bytes received for the blob so far.
func (b *Blob) Fetched() int64 { return b.fetched.Load() }

// Bind says where the blob's bytes go from now on, and which frames are already there. A later call replaces the target: frames that
// are on their way then still go to the old one, if it takes them.
func (b *Blob) Bind(t Target, p Presence) {
	b.binding.Lock()
	defer b.binding.Unlock()
	b.bound = &binding{target: t, presence: p, space: &b.engine.space}
	if room := b.engine.opts.Room; room != nil {
		b.bound.room = func() bool { return room(b.ctx) }
	}
	close(b.rebound)
	b.rebound = make(chan struct{})
}

// Unbind says that t, which can be compared, is closed: nothing is fetched into it any more. What it has is still known. If something else is bound meanwhile, that stays.
func (b *Blob) Unbind(t Target) {
	b.binding.Lock()
	defer b.binding.Unlock()
	if b.bound != nil && b.bound.target == t {
		b.bound.closed.Store(true)
	}
}

// AwaitBound returns nil as soon as the blob's bytes have somewhere to go, and an error if ctx ends before, or the blob is closed.
func (b *Blob) AwaitBound(ctx context.Context) error {
	for {
		b.binding.RLock()
		err, rebound := b.open(), b.rebound
		b.binding.RUnlock()
		if !errors.Is(err, ErrUnbound) {
			return err
		}
		select {
		case <-rebound:
		case <-b.ctx.Done():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Close ends the blob's fetches; readers that wait get [ErrClosed]. When it returns, target, presence and map are not used any more.
func (b *Blob) Close() {
	b.cancel(ErrClosed)
	b.binding.Lock() // who holds it for reading may still start a fetch
	b.bound, b.closed = nil, true
	b.binding.Unlock()
	b.work.Wait()
}

// OnComplete sets a function that is called once, by one of the blob's fetches, when the last missing frame is in place. It is not called for
// a blob that is complete already.
func (b *Blob) OnComplete(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onDone = f
}

// Bound reports whether it is known where the blob's bytes go, and so which of them are there.
func (b *Blob) Bound() bool {
	b.binding.RLock()
	defer b.binding.RUnlock()
	return b.bound != nil
}

// Complete reports whether every frame is in the target.
func (b *Blob) Complete() bool {
	b.binding.RLock()
	defer b.binding.RUnlock()
	return b.bound != nil && b.bound.presence.Count() == b.m.Frames()
}

// Present is the number of blob bytes that are in the target.
func (b *Blob) Present() int64 {
	b.binding.RLock()
	defer b.binding.RUnlock()
	if b.bound == nil {
		return 0
	}
	var n int64
	for i := range b.m.Frames() {
		if b.bound.presence.Has(i) {
			n += int64(b.m.Frame(i).Len)
		}
	}
	return n
}

// Has reports whether all frames that overlap [off, off+n) are in the target.
func (b *Blob) Has(off, n int64) bool {
	b.binding.RLock()
	defer b.binding.RUnlock()
	if b.bound == nil {
		return false
	}
	first, last, err := b.frames(off, n)
	if err != nil || !b.bound.has(first, last) {
		return false
	}
	b.use(first, last)
	b.recordTouch(off, n)
	return true
}

func (bd *binding) has(first, last int) bool {
	for i := first; i <= last; i++ {
		if !bd.presence.Has(i) {
			return false
		}
	}
	return true
}

// Fill returns nil once every frame that overlaps [off, off+n) is in the target, fetching what is missing. The part of the range beyond the
// blob's end is ignored. When ctx ends, or the blob's deadline has passed, Fill returns an error; the fetch goes on for whoever else waits.
func (b *Blob) Fill(ctx context.Context, off, n int64) error {
	return b.fill(ctx, off, n, b.overdue)
}

// fill is Fill with another deadline.
func (b *Blob) fill(ctx context.Context, off, n int64, deadline func() (overdue <-chan time.Time, stop func())) error {
	start := time.Now()
	m, err := b.start(off, n)
	if err == nil && len(m.waits) == 0 { // as most events find it while a mark is on
		return nil
	}
	stats := &b.engine.stats
	stats.waiting.Add(1)
	defer stats.waiting.Add(-1)
	defer b.observed.leave(b.observed.enter(off, n, start))
	overdue, stop := deadline()
	defer stop()
	joined, reason := !m.own, m.class
	var cost timeline.Cost
	for err == nil && len(m.waits) > 0 {
		took, failed := b.await(ctx, m.waits, overdue)
		cost = cost.Plus(took)
		if failed == nil {
			break
		}
		if !errors.Is(failed, errDropped) {
			stats.failed.Add(1)
			b.recordWait(off, n, start, cost, joined, reason, failed)
			return fmt.Errorf("fill blob %s at %d+%d: %w", b.ID(), off, n, failed)
		}
		joined = true // it was being discarded
		m, err = b.start(off, n)
	}
	b.recordWait(off, n, start, cost, joined, reason, err)
	if err != nil {
		stats.failed.Add(1)
		return fmt.Errorf("fill blob %s: %w", b.ID(), err)
	}
	stats.misses.Observe(time.Since(start).Seconds())
	if !joined {
		stats.observe(time.Since(start), cost.Backend())
	}
	return nil
}

// await waits for frames that are on their way, and returns what the longest wait for the backend went to.
func (b *Blob) await(ctx context.Context, waits []*fetching, overdue <-chan time.Time) (cost timeline.Cost, err error) {
	for _, f := range waits {
		select {
		case <-f.done:
			err = f.err
			if f.cost.Backend() > cost.Backend() {
				cost = f.cost
			}
		case <-overdue:
			err = b.late(f)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			return cost, err
		}
	}
	return cost, nil
}

// frames returns the first and last frame of a range that is clipped to the blob. The caller holds b.binding, without which the map may be gone.
func (b *Blob) frames(off, n int64) (first, last int, err error) {
	if off < 0 || n <= 0 || off >= b.Size() {
		return 0, 0, fmt.Errorf("blob %s has %d bytes, asked for %d at %d", b.ID(), b.Size(), n, off)
	}
	end := b.Size()
	if n < end-off {
		end = off + n
	}
	return b.m.Find(off), b.m.Find(end - 1), nil
}

// usable returns why it is not known which frames are there. The caller holds b.binding.
func (b *Blob) usable() error {
	switch {
	case b.closed || b.ctx.Err() != nil:
		return context.Cause(b.ctx)
	case b.bound == nil:
		return ErrUnbound
	}
	return nil
}

// open returns why nothing can be fetched. The caller holds b.binding.
func (b *Blob) open() error {
	err := b.usable()
	if err == nil && b.bound.closed.Load() {
		err = ErrUnbound
	}
	return err
}

// missing is what a reader has to wait for.
type missing struct {
	waits []*fetching
	own   bool  // none of it was on its way before
	class class // why the first of it was, or is
}

// start makes sure that every absent frame of the range is on its way.
func (b *Blob) start(off, n int64) (m missing, err error) {
	b.binding.RLock()
	defer b.binding.RUnlock()
	if err := b.open(); err != nil {
		return m, err
	}
	first, last, err := b.frames(off, n)
	if err != nil {
		return m, err
	}
	here := b.bound.has(first, last)
	if here { // it came a moment ago
		b.use(first, last)
		b.recordTouch(off, n)
	}
	if here && b.ahead.marked(first, last) < 0 {
		return m, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	short := b.engine.space.short()
	if here {
		if !short {
			b.ahead.reached(b, first, last, false)
		}
		return m, nil
	}
	var absent []int
	for i := first; i <= last; i++ {
		// Presence is set before the frame leaves inflight, so a frame in neither is truly missing.
		if f := b.inflight[i]; f != nil {
			if len(m.waits) == 0 && f.job != nil {
				m.class = f.job.now()
			}
			m.waits = append(m.waits, b.wait(f, i))
		} else if !b.bound.presence.Has(i) {
			absent = append(absent, i)
		}
	}
	if len(absent) == 0 {
		if !short {
			b.ahead.reached(b, first, last, true)
		}
		return m, nil
	}
	m.own = len(m.waits) == 0
	wanted := absent[len(absent)-1]
	var more guess
	if !short {
		more = b.ahead.extend(b, absent)
	}
	b.launch(append(absent, more.frames...), wanted, more.class)
	for _, i := range absent {
		m.waits = append(m.waits, b.inflight[i])
	}
	b.launch(more.elsewhere, -1, around)
	return m, nil
}

// runs cuts sorted frames into runs that one backend request each can serve: neighbours in the blob and in the source object, of most source bytes or one frame.
func (b *Blob) runs(frames []int, most int) [][]int {
	var runs [][]int
	size := 0
	for k, i := range frames {
		f := b.m.Frame(i)
		if k > 0 {
			p := b.m.Frame(frames[k-1])
			adjacent := frames[k-1] == i-1 && p.Source == f.Source && p.SrcOff+int64(p.SrcLen) == f.SrcOff
			if adjacent && size+f.SrcLen <= most {
				runs[len(runs)-1] = append(runs[len(runs)-1], i)
				size += f.SrcLen
				continue
			}
		}
		runs = append(runs, []int{i})
		size = f.SrcLen
	}
	return runs
}
