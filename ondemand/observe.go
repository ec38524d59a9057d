package ondemand

import (
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pagein/pagein/ondemand/timeline"
)

// maxRecorders bounds to how many images' recorders a blob tells what happens to it: a miss must not cost more the more images share the blob. Those that came last count, as the start of
// the others is over.
const maxRecorders = 8

// observed is who is told what happens to a blob, and who waits for it.
type observed struct {
	by atomic.Pointer[[]observer] // nil for nobody; what it points to does not change

	mu    sync.Mutex // guards changes of by, and readers
	waits map[*Waiter]struct{}
}

// observer is an image's recorder.
type observer struct {
	*timeline.Recorder
	blob int // what the blob is called in it
}

// Waiter is a reader that waits for a range of a blob.
type Waiter struct {
	Off, Len int64 // bytes
	Since    time.Time
}

// Record has r told what happens to the blob from now on, as the image's blob number blob, until Unrecord.
func (b *Blob) Record(r *timeline.Recorder, blob int) {
	b.observed.mu.Lock()
	defer b.observed.mu.Unlock()
	all := append([]observer{{r, blob}}, b.observed.all()...)
	all = all[:min(len(all), maxRecorders)]
	b.observed.by.Store(&all)
}

// Unrecord takes back a Record.
func (b *Blob) Unrecord(r *timeline.Recorder) {
	b.observed.mu.Lock()
	defer b.observed.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(b.observed.all()), func(o observer) bool { return o.Recorder == r })
	b.observed.by.Store(&all)
}

// Waiting returns the readers that wait now.
func (b *Blob) Waiting() []Waiter {
	b.observed.mu.Lock()
	defer b.observed.mu.Unlock()
	var all []Waiter
	for w := range b.observed.waits {
		all = append(all, *w)
	}
	return all
}

func (o *observed) all() []observer {
	if by := o.by.Load(); by != nil {
		return *by
	}
	return nil
}

func (o *observed) enter(off, n int64, since time.Time) *Waiter {
	w := &Waiter{off, n, since}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waits == nil {
		o.waits = make(map[*Waiter]struct{})
	}
	o.waits[w] = struct{}{}
	return w
}

func (o *observed) leave(w *Waiter) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waits, w)
}

// recordWait tells of a reader that waited since start, until now.
func (b *Blob) recordWait(off, n int64, start time.Time, cost timeline.Cost, joined bool, c class, err error) {
	all := b.observed.all()
	if len(all) == 0 {
		return
	}
	took := time.Since(start)
	e := timeline.Event{Kind: timeline.Wait, Off: off, Len: min(n, b.Size()-off), Took: took, Cost: cost.Last(took), Joined: joined, Reason: c.String(), Err: words(err)}
	record(all, e, start)
}

// recordTouch tells of a reader who came to a range that was there.
func (b *Blob) recordTouch(off, n int64) {
	for _, o := range b.observed.all() {
		o.Touch(o.blob, off, min(n, b.Size()-off), time.Now())
	}
}

// recordFetch tells of an attempt to fetch frames of which done have come.
func (b *Blob) recordFetch(s *source, frames []int, done int, c class, attempt int, queued time.Time, cost timeline.Cost, err error) {
	all := b.observed.all()
	if len(all) == 0 {
		return
	}
	first, last := b.m.Frame(frames[0]), b.m.Frame(frames[len(frames)-1])
	e := timeline.Event{
		Kind: timeline.Fetch, Off: first.Off, Len: last.Off + int64(last.Len) - first.Off, Took: time.Since(queued), Cost: cost, Reason: c.String(), Site: s.site, Try: attempt, Err: words(err),
	}
	if done > 0 {
		end := b.m.Frame(frames[done-1])
		e.Bytes = end.SrcOff + int64(end.SrcLen) - first.SrcOff
	}
	record(all, e, queued)
}

// recordBytes tells of source bytes that are in place.
func (b *Blob) recordBytes(c class, n int) {
	for _, o := range b.observed.all() {
		o.Received(c.String(), int64(n))
	}
}

func record(all []observer, e timeline.Event, began time.Time) {
	for _, o := range all {
		e.Blob, e.At = o.blob, o.Since(began)
		o.Add(e)
	}
}

// askedRange is what an error says of which bytes were asked for.
var askedRange = regexp.MustCompile(`\bbytes \d+ to \d+ of `)

// words are those of an error, without the range, which events have anyway: so few different errors are kept that one cause must not take the room of all.
func words(err error) string {
	if err == nil {
		return ""
	}
	return askedRange.ReplaceAllLiteralString(err.Error(), "")
}
