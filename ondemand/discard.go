package ondemand

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
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
// read of a range can be under way. It is asked when the range's frames have been marked absent, so that whoever comes later is made to wait, and fetches
// them again; frames that are not idle stay. To call it is only right for who sees every read of the target before it begins.
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
	for steps := 2 * b.m.Frames(); freed < want && steps > 0; {
		frames, looked := b.claim(want-freed, steps)
		steps -= looked
		n, err := b.discard(target, frames, idle)
		freed += n
		if err != nil {
			return freed, fmt.Errorf("discard frames of blob %s: %w", b.ID(), err)
		}
	}
	return freed, nil
}

// claim marks frames of up to want bytes as absent and as on their way, so that who wants them waits, and moves the hand by up to steps frames. The caller
// holds b.binding.
func (b *Blob) claim(want int64, steps int) (frames []int, looked int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ; looked < steps && want > 0 && len(frames) < discardBatch; looked++ {
		i := b.hand
		b.hand = (b.hand + 1) % b.m.Frames()
		if b.inflight[i] != nil || !b.bound.presence.Has(i) || b.unuse(i) {
			continue
		}
		b.inflight[i] = &fetching{done: make(chan struct{})}
		b.bound.presence.Clear(i)
		frames = append(frames, i)
		want -= int64(b.m.Frame(i).Len)
	}
	return frames, looked
}

// discard gives back the space of claimed frames, but for those that are being read, and ends the claim.
func (b *Blob) discard(target Discarder, frames []int, idle func(off, n int64) bool) (freed int64, err error) {
	gone := slices.Clone(frames)
	gone = slices.DeleteFunc(gone, func(i int) bool {
		f := b.m.Frame(i)
		if idle(f.Off, int64(f.Len)) {
			return false
		}
		b.unclaim(i, true)
		return true
	})
	if len(gone) == 0 {
		return 0, nil
	}
	if err := target.Forget(gone...); err != nil {
		for _, i := range gone {
			b.unclaim(i, true)
		}
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
		b.unclaim(i, false)
	}
	return freed, errs
}

// unclaim lets go of a claimed frame, which is as it was or absent. Who waited for it looks again.
func (b *Blob) unclaim(i int, present bool) {
	if present {
		b.bound.presence.Set(i)
	}
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
}

// unuse forgets that somebody wanted frame i and reports whether somebody did.
func (b *Blob) unuse(i int) bool {
	bit := uint32(1) << (i % 32)
	return b.used[i/32].And(^bit)&bit != 0
}

// newUsed returns room for a bit for each frame.
func newUsed(frames int) []atomic.Uint32 { return make([]atomic.Uint32, (frames+31)/32) }
