package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/pagein/pagein/ondemand/timeline"
)

var (
	// asking is what errors begin with that were met while bytes were asked for: after how long a reader gave up, and what was read.
	asking = regexp.MustCompile(`^(?:given up after [^:]+: )?(?:read (?:bytes \d+ to \d+ of )?\S+: )?`)
	// digests are the part of URLs and names by which one cause looks like many.
	digests = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
)

// cause is what is wrong, without which bytes it was met at.
func cause(text string) string {
	if rest := asking.ReplaceAllLiteralString(text, ""); rest != "" {
		text = rest
	}
	return digests.ReplaceAllLiteralString(text, "sha256:…")
}

// failures sums up errors by their cause, and finds out which reads were held up by some.
func (a *analysis) failures(events []timeline.Event) {
	base := a.began // of the events' times
	byBlob := make(map[int64][]timeline.Event)
	for _, e := range events {
		if e.Err == "" {
			continue
		}
		e.At += base
		if e.Kind == timeline.Fetch {
			byBlob[int64(e.Blob)] = append(byBlob[int64(e.Blob)], e)
		}
		f := named(&a.Errors, cause(e.Err), func(f *Failure) *string { return &f.Text })
		if f.Count++; f.Count == 1 {
			f.First = e.At + e.Took
		}
		f.First, f.Last = min(f.First, e.At+e.Took), max(f.Last, e.At+e.Took)
	}
	slices.SortFunc(a.Errors, func(x, y Failure) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Text, y.Text))
	})
	deadline, err := time.ParseDuration(a.Deadline)
	for i := range a.Misses {
		m := &a.Misses[i]
		m.HeldUp = m.Err != "" || slices.ContainsFunc(byBlob[m.blob], func(e timeline.Event) bool {
			return e.Off < m.off+m.len && m.off < e.Off+e.Len && e.At < m.At+m.Took && m.At < e.At+e.Took
		})
		if m.Err != "" && err == nil && m.Took >= deadline {
			a.Waits.Late++
		}
	}
}

// healthy sums up the reads that no failure held up.
func (a *analysis) healthy() {
	var any ranges
	h := &a.Waits.Healthy
	for _, m := range a.Misses {
		if !m.HeldUp {
			any.add(int64(m.At), int64(m.At+m.Took))
			h.Sum += m.Took
			h.Cost = h.Cost.Plus(m.Cost)
		}
	}
	h.Any = time.Duration(any.sum())
}

// when says when something failed.
func (f Failure) when() string {
	if f.Count == 1 {
		return "at " + offset(f.Last)
	}
	return fmt.Sprintf("from %s to %s", offset(f.First), offset(f.Last))
}

// failed says how many reads failed, and how many of them because of the deadline; "" if none did.
func (r *Report) failed() string {
	text := count(r.Waits.Failed, "read ended", "reads ended") + " in an error"
	switch n := r.Waits.Late; {
	case r.Waits.Failed == 0:
		return ""
	case n == r.Waits.Failed:
		text += ", as read-deadline (" + r.Deadline + ") had passed"
	case n > 0:
		text += fmt.Sprintf(", %d of them as read-deadline (%s) had passed", n, r.Deadline)
	}
	return text
}
