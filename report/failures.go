package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pagein/pagein/ondemand/timeline"
)

var (
	// asking is what errors begin with that were met while bytes were asked for: after how long a reader gave up, and what was read.
	asking = regexp.MustCompile(`^(?:given up after [^:]+: )?(?:read (?:bytes \d+ to \d+ of )?\S+: )?`)
	// digests are the part of URLs and names by which one cause looks like many.
	digests = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	// asked is the URL that a cause begins with: its beginning, and its host.
	asked = regexp.MustCompile(`^(?:[A-Z][a-z]+ )?"?(https?://([^/"\s]+))(?:/[^"\s]*?)?"?: `)
	// repository is what else errors name of what was asked: the host of a repository.
	repository = regexp.MustCompile(`^(?:given up after [^:]+: )?read (?:bytes \d+ to \d+ of )?([^/\s]+)/\S+: `)
	// dialing is what is said of how a server was not reached.
	dialing = regexp.MustCompile(`^dial \w+(?: \S+)?: (?:connect: )?`)
)

// maxBrief is how many characters of a cause are in a table at most.
const maxBrief = 90

// cause is what is wrong, without which bytes it was met at.
func cause(text string) string {
	if rest := asking.ReplaceAllLiteralString(text, ""); rest != "" {
		text = rest
	}
	return digests.ReplaceAllLiteralString(text, "sha256:…")
}

// briefly is a cause for a column: who was asked, and what is wrong, without the rest of a URL.
func briefly(text string) string {
	host, why := "", cause(text)
	if m := asked.FindStringSubmatch(why); m != nil {
		host, why = m[2]+": ", why[len(m[0]):]
	} else if m := repository.FindStringSubmatch(text); m != nil && !strings.HasPrefix(why, m[1]) {
		host = m[1] + ": "
	}
	if rest := dialing.ReplaceAllLiteralString(why, ""); rest != "" {
		why = rest
	}
	all := []rune(Printable(host + why))
	if len(all) > maxBrief {
		return string(all[:maxBrief-1]) + "…"
	}
	return string(all)
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
		if e.Kind == timeline.Wait {
			f.Reads++
		} else if f.Site == "" {
			f.Site = e.Site
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

// what says what failed: requests, or reads, or both.
func (f Failure) what() string {
	var all []string
	if n := f.Count - f.Reads; n > 0 {
		all = append(all, count(n, "request", "requests"))
	}
	if f.Reads > 0 {
		all = append(all, count(f.Reads, "read", "reads"))
	}
	return strings.Join(all, " and ")
}

// remedy says what to look at because of a failure.
func (r *Report) remedy(f Failure) string {
	const status = "pagein status shows what is wrong now"
	m := asked.FindStringSubmatch(f.Text)
	switch {
	case m != nil:
		return fmt.Sprintf("See to that server first: \"curl -i %s/v2/\" on this node tells whether it answers, %s.", Printable(m[1]), status)
	case strings.HasPrefix(f.Site, "registry "):
		return fmt.Sprintf("See to %s first: \"pagein inspect %s\" asks it, %s.", Printable(f.Site), Printable(r.Title), status)
	case f.Site != "":
		return fmt.Sprintf("See to %s first: %s.", Printable(f.Site), status)
	}
	return "See to that first: " + status + "."
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
