package ondemand

import (
	"errors"
	"fmt"
	"time"

	"github.com/pagein/pagein/blob"
)

// Problem is why bytes that somebody waited for could not be had.
type Problem struct {
	Frame int
	Err   error     // names the object, the range, who is to blame and why
	Since time.Time // when it began
	Final bool      // since then readers got errors; if not, they wait while it is tried again
}

// Problem is what is wrong with the blob now, nil if nothing is known to be. It is nil again once the frame is there, or shows that its source is well.
func (b *Blob) Problem() *Problem { return b.problem.Load() }

// trouble notes a problem.
func (b *Blob) trouble(frame int, err error, final bool) {
	p := &Problem{Frame: frame, Err: err, Since: time.Now(), Final: final}
	if old := b.problem.Load(); old != nil {
		p.Since, p.Final = old.Since, final || old.Final // whom it has cost something is not to be hidden by who waits now
	}
	b.problem.Store(p)
}

// recovered notes that a frame is there. That mends what was wrong with others of its source too, unless their bytes were.
func (b *Blob) recovered(frame int) {
	p := b.problem.Load()
	if p == nil {
		return
	}
	if same := b.m.Frame(p.Frame).Source == b.m.Frame(frame).Source; p.Frame == frame || same && !errors.Is(p.Err, blob.ErrCorrupt) {
		b.problem.CompareAndSwap(p, nil)
	}
}

// SetDeadline sets how long readers of the blob wait for bytes that cannot be had before they get an error: 0 stands for the engine's default, a negative
// time for as long as it takes. Bytes that are corrupt at their source are an error in any case.
func (b *Blob) SetDeadline(d time.Duration) { b.deadline.Store(int64(d)) }

// patience is how long readers wait, negative for as long as it takes.
func (b *Blob) patience() time.Duration {
	if d := time.Duration(b.deadline.Load()); d != 0 {
		return d
	}
	return b.engine.opts.Deadline
}

// overdue returns a channel that tells when a reader who begins to wait now has waited enough.
func (b *Blob) overdue() (<-chan time.Time, func()) {
	d := b.patience()
	if d < 0 {
		return nil, func() {}
	}
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// late is the error of a reader that waited until its deadline. A request that has brought nothing for most of that time is given up, so that who asks next does not wait for it too: its
// server may be well again.
func (b *Blob) late(f *fetching) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := f.job
	select {
	case <-f.done: // it came in the same moment
		return f.err
	default:
	}
	if j == nil {
		return fmt.Errorf("given up after %s: its space is being given back", b.patience())
	}
	first, last := b.m.Frame(j.frames[0]), b.m.Frame(j.frames[len(j.frames)-1])
	err := fmt.Errorf("given up after %s: read bytes %d to %d of %s: no answer yet", b.patience(), first.SrcOff, last.SrcOff+int64(last.SrcLen)-1, j.source)
	if j.err != nil {
		err = fmt.Errorf("given up after %s: %w", b.patience(), j.err)
	}
	b.trouble(j.frames[0], err, true)
	if j.giveUp != nil && time.Since(j.moved) > b.patience()/2 {
		j.giveUp(err)
	}
	return err
}
