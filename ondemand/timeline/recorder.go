package timeline

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstEvents are kept from the beginning, lastEvents of what came after them.
	firstEvents = 3072
	lastEvents  = 1024
	// maxWords bounds the different reasons, sites and errors that are told apart, maxWord the bytes of one.
	maxWords = 16
	maxWord  = 300
	// firstTouches are kept from the beginning, apart from the others: they are many, and small.
	firstTouches = 8192
	// MaxBytes is more than the memory of a recorder: 4,096 records of 56 bytes, touches of 16, words and sums.
	MaxBytes = 448 << 10
)

// record is an event as it is kept.
type record struct {
	off, len                              int64
	at                                    time.Duration
	took                                  uint32 // microseconds, as the others
	queue, server, transfer, verify       uint32
	bytes                                 uint32
	blob                                  uint16
	kind, reason, site, problem, try, how uint8
}

const joined = 1 // in record.how

// touch is a Touch as it is kept.
type touch struct {
	at    time.Duration
	page  uint32
	pages uint16
	blob  uint16
}

const pageSize = 4096

// Recorder keeps the events of one image. Its methods may be called concurrently.
type Recorder struct {
	began time.Time
	full  atomic.Bool // no touches are kept any more

	mu      sync.Mutex
	first   []record
	last    []record // a ring once it is full
	next    int      // where the oldest of the ring is
	missed  int64    // events that are kept no more
	reasons words
	sites   words
	errs    words
	sums    sums
	touches []touch
}

// NewRecorder returns a recorder that begins now.
func NewRecorder() *Recorder { return &Recorder{began: time.Now()} }

// Began is the moment that events' times count from.
func (r *Recorder) Began() time.Time { return r.began }

// Since is the time of an event that began at t, 0 for one before the recorder.
func (r *Recorder) Since(t time.Time) time.Duration { return max(t.Sub(r.began), 0) }

// Add notes an event, which is no [Touch].
func (r *Recorder) Add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := record{
		off: e.Off, len: e.Len, at: e.At.Truncate(time.Microsecond), took: micros(e.Took), queue: micros(e.Cost.Queue), server: micros(e.Cost.Server), transfer: micros(e.Cost.Transfer),
		verify: micros(e.Cost.Verify), bytes: uint32(min(max(e.Bytes, 0), 1<<32-1)), blob: uint16(min(max(e.Blob, 0), 1<<16-1)), kind: uint8(e.Kind), try: uint8(min(max(e.Try, 0), 255)),
		reason: r.reasons.index(e.Reason), site: r.sites.index(e.Site), problem: r.errs.index(e.Err),
	}
	if e.Joined {
		rec.how |= joined
	}
	switch {
	case len(r.first) < firstEvents:
		r.first = append(r.first, rec)
	case len(r.last) < lastEvents:
		r.last = append(r.last, rec)
	default:
		r.last[r.next] = rec
		r.next = (r.next + 1) % lastEvents
		r.missed++
	}
}

// Touch notes that a reader came at a time to a range of a blob that was there. Of what comes after many thousands of touches nothing is kept.
func (r *Recorder) Touch(blob int, off, n int64, at time.Time) {
	if r.full.Load() {
		return
	}
	first, last := off/pageSize, (off+max(n, 1)-1)/pageSize
	t := touch{at: r.Since(at).Truncate(time.Microsecond), page: uint32(first), pages: uint16(min(last-first+1, 1<<16-1)), blob: uint16(blob)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.touches) == firstTouches {
		r.full.Store(true)
		return
	}
	r.touches = append(r.touches, t)
}

// Received counts bytes of a source, for which it was asked because of reason, that are in place now.
func (r *Recorder) Received(reason string, bytes int64) {
	at := time.Since(r.began)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sums.add(at, int(r.reasons.index(reason)), bytes)
}

// Snapshot is what a recorder has kept.
type Snapshot struct {
	Began  time.Time `json:"began"`
	Events []Event   `json:"events"` // the first, in the order in which they ended, and the latest; then the first touches
	Missed int64     `json:"missed"` // events between these that are kept no more
	Steps  []Step    `json:"steps"`  // in which bytes came
	Curves []Curve   `json:"curves"` // how many
}

// Curve is how many source bytes had come for one reason: Bytes[i] until the end of Steps[i].
type Curve struct {
	Reason string  `json:"reason"`
	Bytes  []int64 `json:"bytes"`
}

// Snapshot returns what was kept so far, of events those that were not over at a time since the beginning.
func (r *Recorder) Snapshot(since time.Duration) Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Snapshot{Began: r.began, Missed: r.missed, Steps: r.sums.times()}
	for _, recs := range [][]record{r.first, r.last[r.next:], r.last[:r.next]} {
		for i := range recs {
			if recs[i].at+duration(recs[i].took) < since {
				continue
			}
			s.Events = append(s.Events, r.event(&recs[i]))
		}
	}
	for _, t := range r.touches {
		if t.at >= since {
			s.Events = append(s.Events, Event{Kind: Touch, Blob: int(t.blob), At: t.at, Off: int64(t.page) * pageSize, Len: int64(t.pages) * pageSize})
		}
	}
	for k, reason := range r.reasons.list {
		if bytes := r.sums.curve(k + 1); bytes != nil {
			s.Curves = append(s.Curves, Curve{Reason: reason, Bytes: bytes})
		}
	}
	return s
}

func (r *Recorder) event(rec *record) Event {
	return Event{
		Kind: Kind(rec.kind), Blob: int(rec.blob), At: rec.at, Off: rec.off, Len: rec.len, Took: duration(rec.took),
		Cost:   Cost{duration(rec.queue), duration(rec.server), duration(rec.transfer), duration(rec.verify)},
		Reason: r.reasons.word(rec.reason), Joined: rec.how&joined != 0, Bytes: int64(rec.bytes), Site: r.sites.word(rec.site), Try: int(rec.try), Err: r.errs.word(rec.problem),
	}
}

func micros(d time.Duration) uint32 { return uint32(min(max(d.Microseconds(), 0), 1<<32-1)) }

func duration(us uint32) time.Duration { return time.Duration(us) * time.Microsecond }

// words are the different values that a text has, by number; 0 stands for "".
type words struct{ list []string }

// other stands for what came after the list was full.
const other = "(other)"

func (w *words) index(s string) uint8 {
	if s == "" {
		return 0
	}
	if len(s) > maxWord {
		s = s[:maxWord] + "…"
	}
	i := slices.Index(w.list, s)
	switch {
	case i >= 0:
	case len(w.list) < maxWords-1:
		i = len(w.list)
		w.list = append(w.list, s)
	case len(w.list) == maxWords-1:
		w.list = append(w.list, other)
		fallthrough
	default:
		i = maxWords - 1
	}
	return uint8(i + 1)
}

func (w *words) word(i uint8) string {
	if i == 0 {
		return ""
	}
	return w.list[i-1]
}
