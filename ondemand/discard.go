package ondemand

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Discarder is a [Target] that can give space back.
type Discarder interface {
	// Forget has it on the disk that the frames are absent. When it fails they may be absent or present, and their bytes are untouched.
	Forget(frames ...int) error
	// Punch gives back the space of a range, which from then on reads as zeros.
	Punch(off, n int64) error
}

// ErrKept says that a blob's target cannot give back the space of a part of it.
var ErrKept = errors.New("its target keeps what it has")

// discardBatch bounds how many frames are unavailable at a time while they are being discarded: readers who want them wait for a disk sync or two.
const discardBatch = 256

// Discard gives back the space of up to want bytes of frames, first of those that nobody wanted for long, and returns how much that was. idle reports whether no
// read of a range can be under way. What counts is its answer when the range's frames have been marked absent, so that whoever comes later is made to wait, and fetches
// them again. To call it is only right for who sees every read of the target before it begins.
func (b *Blob) Discard(want int64, idle func(off, n int64) bool) (freed int64, err error) {
	b.binding.RLock()
	defer b.binding.RUnlock()
	if b.bound == nil {
		return 0, ErrUnbound
	}
	target, ok := b.bound.target.(Discarder)
	if !ok {
		return 0, fmt.Errorf("discard frames of blob %s: %w", b.ID(), ErrKept)
	}
	for steps := 2 * b.m.Frames(); freed < want && steps > 0 && b.ctx.Err() == nil; { // Close waits
		frames, looked := b.claim(want-freed, steps, idle)
		steps -= looked
		n, err := b.discard(target, frames, idle)
		freed += n
		if err != nil {
			return freed, fmt.Errorf("discard frames of blob %s: %w", b.ID(), err)
		}
	}
	return freed, nil
}

// claim marks frames of up to want bytes that seem idle as absent and as on their way, so that who wants them waits, and moves the hand by up to steps frames. The caller
// holds b.binding.
func (b *Blob) claim(want int64, steps int, idle func(off, n int64) bool) (frames []int, looked int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ; looked < steps && want > 0 && len(frames) < discardBatch; looked++ {
		i := b.hand
		b.hand = (b.hand + 1) % b.m.Frames()
		if b.inflight[i] != nil || !b.bound.presence.Has(i) || b.unuse(i) {
			continue
		}
		f := b.m.Frame(i)
		if !idle(f.Off, int64(f.Len)) {
			continue
		}
		b.inflight[i] = &fetching{done: make(chan struct{})}
		b.bound.presence.Clear(i)
		frames = append(frames, i)
		want -= int64(f.Len)
	}
	return frames, looked
}

// discard gives back the space of claimed frames, and ends the claim. A frame that somebody began to read meanwhile keeps its bytes, but stays absent: whether the disk has
// them for good is not known here any more.
func (b *Blob) discard(target Discarder, frames []int, idle func(off, n int64) bool) (freed int64, err error) {
	defer func() {
		for _, i := range frames {
			b.unclaim(i)
		}
	}()
	gone := slices.DeleteFunc(slices.Clone(frames), func(i int) bool {
		f := b.m.Frame(i)
		return !idle(f.Off, int64(f.Len))
	})
	if len(gone) == 0 {
		return 0, nil
	}
	if err := target.Forget(gone...); err != nil {
		return 0, err
	}
	var errs error
	for _, i := range gone {
		f := b.m.Frame(i)
		if err := target.Punch(f.Off, int64(f.Len)); err != nil {
			errs = errors.Join(errs, err)
		} else {
			freed += int64(f.Len)
		}
	}
	return freed, errs
}

// unclaim lets go of a claimed frame. Who waited for it looks again.
func (b *Blob) unclaim(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.inflight[i]
	delete(b.inflight, i)
	f.err = errDropped
	close(f.done)
}

// use notes that somebody wants the frames first to last.
func (b *Blob) use(first, last int) {
	for i := first; i <= last; i++ {
		word, bit := &b.used[i/32], uint32(1)<<(i%32)
		if word.Load()&bit == 0 { // most are: reading is cheaper than writing
			word.Or(bit)
		}
	}
	b.wanted.Store(time.Now().UnixNano())
}

// Used is when somebody last wanted bytes that the kernel had not cached, the zero time if nobody has.
func (b *Blob) Used() time.Time {
	if at := b.wanted.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// unuse forgets that somebody wanted frame i and reports whether somebody did.
func (b *Blob) unuse(i int) bool {
	bit := uint32(1) << (i % 32)
	return b.used[i/32].And(^bit)&bit != 0
}

// newUsed returns room for a bit for each frame.
func newUsed(frames int) []atomic.Uint32 { return make([]atomic.Uint32, (frames+31)/32) }
