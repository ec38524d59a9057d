package main

import (
	"fmt"
	"sync"
	"time"
)

// slack is for how long a fault that is over may still show: requests that failed are made again after up to 5 s.
const slack = 6 * time.Second

// trouble is a time in which something was made to go wrong.
type trouble struct {
	what        string
	from, until time.Time // until is zero while it lasts
	reads       bool      // may fail
	final       bool      // even those that would wait
}

// judge knows what was done to the daemon and says which failures that excuses. It is for concurrent use.
type judge struct {
	mu       sync.Mutex
	troubles []*trouble
	wrong    error // the first thing that must not be
	bytes    int64
	reads    int
	errors   int // reads that failed and might
	slowest  time.Duration
}

// fail notes something that must not be.
func (j *judge) fail(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wrong == nil {
		j.wrong = fmt.Errorf(format, args...)
	}
}

// verdict is the first thing that was wrong.
func (j *judge) verdict() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wrong
}

// begin notes that a trouble begins now; what it returns ends it.
func (j *judge) begin(t trouble) (end func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t.from = time.Now()
	j.troubles = append(j.troubles, &t)
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		t.until = time.Now()
	}
}

// excused reports whether something may have failed between two moments because of a trouble that fits.
func (j *judge) excused(from, until time.Time, fits func(*trouble) bool) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, t := range j.troubles {
		if fits(t) && t.from.Before(until) && (t.until.IsZero() || t.until.Add(slack).After(from)) {
			return true
		}
	}
	return false
}

// heard judges what a reader reports.
func (j *judge) heard(r *reading, report readerReport) {
	if report.Wrong != "" {
		j.fail("WRONG BYTES at %s: %s", r.at.target, report.Wrong)
	}
	for _, e := range report.Errors {
		if !j.excused(e.From, e.Until, func(t *trouble) bool { return t.reads && (t.final || !r.wait) }) {
			j.fail("a read failed without need at %s, from %s to %s: %s", r.at.target, e.From.Format(time.TimeOnly+".000"), e.Until.Format(time.TimeOnly+".000"), e.What)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bytes += report.Bytes
	j.reads += report.Reads
	j.errors += len(report.Errors)
	j.slowest = max(j.slowest, report.Slowest)
}

// forget drops the troubles that excuse nothing any more.
func (j *judge) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	var current []*trouble
	for _, t := range j.troubles {
		if t.until.IsZero() || time.Since(t.until) < time.Minute+slack {
			current = append(current, t)
		}
	}
	j.troubles = current
}
