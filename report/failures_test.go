package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

// told are text and advice of a report.
func told(t *testing.T, r *Report) (text, advice string) {
	t.Helper()
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	return b.String(), strings.Join(r.Advice, "\n")
}

// TestFailuresAreToldByTheirCause has a registry that is away: four readers of two blobs wait for the deadline, one after the other, and one for as long as two attempts take.
func TestFailuresAreToldByTheirCause(t *testing.T) {
	const deadline = 30 * time.Second
	const refused = "dial tcp 127.0.0.1:5000: connect: connection refused"
	in := &control.Timeline{Image: control.Image{Ref: "x", TotalBytes: 1 << 20, Policy: control.Policy{Deadline: deadline.String()}}, SourceBytes: 1 << 20}
	at := time.Second
	for i := range 4 {
		what := fmt.Sprintf("read bytes %d to %d of registry/app@sha256:%064d: %s", i, i+9, i, refused)
		if i%2 == 1 {
			what = fmt.Sprintf("read registry/app@sha256:%064d: %s", i, refused)
		}
		in.Events = append(in.Events,
			timeline.Event{Kind: timeline.Fetch, Blob: i % 2, At: at, Off: 4096 * int64(i), Len: 4096, Took: time.Millisecond, Reason: "demand", Site: "s", Err: what},
			timeline.Event{Kind: timeline.Wait, Blob: i % 2, At: at, Off: 4096 * int64(i), Len: 4096, Took: deadline, Err: "given up after 30s: " + what})
		at += deadline
	}
	in.Events = append(in.Events, timeline.Event{Kind: timeline.Wait, At: at, Len: 4096, Took: time.Second, Err: "read registry/app: 404 Not Found"})
	r := Make(Input{Timeline: in})
	want := []Failure{{refused, 8, 4, "s", time.Second + time.Millisecond, 121 * time.Second}, {"404 Not Found", 1, 1, "", 122 * time.Second, 122 * time.Second}}
	if !slices.Equal(r.Errors, want) {
		t.Errorf("errors are %+v, want %+v", r.Errors, want)
	}
	if w := r.Waits; w.Failed != 5 || w.Late != 4 || w.InVain != 121*time.Second || w.Healthy.Any != 0 {
		t.Errorf("waits: %+v", w)
	}
	text, advice := told(t, r)
	for _, want := range []string{"in vain", "2m1s (100 %), for a server that does not answer, or another attempt", "for the rest", "0 µs (0 %)", "4 of them as read-deadline (30s) had passed", "4 requests and 4 reads, from +1.001 s to +121.000 s: "} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has nothing of %q:\n%s", want, text)
		}
	}
	if !strings.Contains(advice, "See to s first: pagein status shows what is wrong now.") || strings.Contains(text, "half of the answers") {
		t.Errorf("it says nothing of who failed, or of answers though there was none:\n%s", text)
	}
	if strings.Contains(advice, "pagein optimize") || strings.Contains(advice, "below") || !strings.Contains(advice, "SIGBUS") || strings.Count(advice, "refused") != 1 {
		t.Errorf("advice:\n%s", advice)
	}
}

// TestReadsThatAFailureHeldUpAreNoneToPrefetch has a reader that waited for a second attempt, and another elsewhere that did not.
func TestReadsThatAFailureHeldUpAreNoneToPrefetch(t *testing.T) {
	r := Make(Input{Timeline: &control.Timeline{Snapshot: timeline.Snapshot{Events: []timeline.Event{
		{Kind: timeline.Fetch, At: time.Second, Off: 0, Len: 1 << 20, Took: time.Second, Err: "down"},
		{Kind: timeline.Wait, At: time.Second, Off: 4096, Len: 4096, Took: 5 * time.Second},
		{Kind: timeline.Wait, At: time.Second, Off: 4 << 20, Len: 4096, Took: time.Second},
		{Kind: timeline.Wait, At: time.Second, Blob: 1, Off: 4096, Len: 4096, Took: 2 * time.Second},
		{Kind: timeline.Wait, At: time.Minute, Off: 4096, Len: 4096, Took: time.Second},
	}}}})
	var heldUp []bool
	for _, m := range r.Misses {
		heldUp = append(heldUp, m.HeldUp)
	}
	if !slices.Equal(heldUp, []bool{true, false, false, false}) || r.Waits.Healthy.Any != 3*time.Second || r.Waits.Healthy.Sum != 4*time.Second || r.Waits.Any != 6*time.Second {
		t.Errorf("held up are %v; %+v", heldUp, r.Waits)
	}
}

func TestAdviceKnowsWhatWasDone(t *testing.T) {
	const s = time.Second
	wait := func(c timeline.Cost) timeline.Snapshot {
		return timeline.Snapshot{Events: []timeline.Event{{Kind: timeline.Wait, Took: s, Len: 4096, Cost: c}}}
	}
	came := func(reason string, bytes int64) timeline.Snapshot {
		return timeline.Snapshot{Steps: []timeline.Step{{From: 0, To: s / 4}}, Curves: []timeline.Curve{{Reason: reason, Bytes: []int64{bytes}}}, Events: wait(timeline.Cost{}).Events}
	}
	for name, c := range map[string]struct {
		timeline  control.Timeline
		says, not string
	}{
		"a start like any other":     {control.Timeline{Snapshot: wait(timeline.Cost{})}, "put this first in the image (pagein optimize)", "optimize anew"},
		"an optimized image":         {control.Timeline{Snapshot: wait(timeline.Cost{}), HotBytes: 5 << 20}, "5.0 MiB of the image are laid out for a workload", "put this first"},
		"a link":                     {control.Timeline{Snapshot: wait(timeline.Cost{Transfer: s})}, "the link is the limit", "host-bandwidth"},
		"a limit":                    {control.Timeline{Snapshot: wait(timeline.Cost{Transfer: s}), HostBandwidth: 20 << 20}, "host-bandwidth (20 MiB/s) is the limit", "the link is the limit"},
		"a link slower than a limit": {control.Timeline{Snapshot: timeline.Snapshot{Steps: came("demand", 1<<20).Steps, Curves: came("demand", 1<<20).Curves, Events: wait(timeline.Cost{Transfer: s}).Events}, HostBandwidth: 20 << 20}, "the link is the limit", "host-bandwidth"},
		"guesses":                    {control.Timeline{Snapshot: came("around", 20<<20), Image: control.Image{TotalBytes: 1 << 30}, SourceBytes: 1 << 30}, `set read-around = "none"`, "nothing of this"},
		"reading ahead":              {control.Timeline{Snapshot: came("ahead", 20<<20), Image: control.Image{TotalBytes: 1 << 30}, SourceBytes: 1 << 30}, "20 MiB came ahead of readers in order; about 20 MiB of these have not been read yet", "read-around = "},
	} {
		_, advice := told(t, Make(Input{Timeline: &c.timeline, Tree: &Tree{Files: []File{{"/a", 1 << 30, 1 << 30}}, spans: map[int][]span{0: {{0, 1 << 30, 0, 0}}}}}))
		if !strings.Contains(advice, c.says) || strings.Contains(advice, c.not) {
			t.Errorf("%s:\n%s", name, advice)
		}
	}
}

// TestAnOutageIsToldWithoutContradiction has two reads of a file that end in an error, the second of which came when the bytes had been asked for already.
func TestAnOutageIsToldWithoutContradiction(t *testing.T) {
	const what = `read registry.test:5000/app@sha256:0000000000000000000000000000000000000000000000000000000000000000: Get "http://registry.test:5000/v2/app/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000": dial tcp 127.0.0.1:5000: connect: connection refused`
	in := &control.Timeline{Image: control.Image{Ref: "x", TotalBytes: 8192}, Snapshot: timeline.Snapshot{Events: []timeline.Event{
		{Kind: timeline.Fetch, Len: 4096, Reason: "demand", Site: "registry registry.test:5000", Err: what},
		{Kind: timeline.Wait, Len: 4096, Took: time.Second, Err: "given up after 1s: " + what},
		{Kind: timeline.Wait, Len: 4096, Took: time.Second, Err: "given up after 1s: " + what, Joined: true, Reason: "demand"},
	}}}
	tree := &Tree{Files: []File{{"/bin/app", 8192, 8192}}, spans: map[int][]span{0: {{0, 8192, 0, 0}}}}
	for name, tree := range map[string]*Tree{"with a tree": tree, "without": nil} {
		r := Make(Input{Timeline: in, Tree: tree})
		if r.Image.Read != 0 || r.Image.ReadBytes != 0 || r.Files[0].Read != 0 || r.Waits.Joined != 0 {
			t.Errorf("%s: of nothing %+v is read, %+v; %d came when the bytes were on their way", name, r.Image, r.Files, r.Waits.Joined)
		}
		text, advice := told(t, r)
		for _, want := range []string{"1 request and 2 reads, from ", "  an error: registry.test:5000: connection refused  "} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: it says nothing of %q:\n%s", name, want, text)
			}
		}
		if !strings.Contains(advice, `"curl -i http://registry.test:5000/v2/" on this node tells whether it answers`) || strings.Contains(text, "on their way already") {
			t.Errorf("%s:\n%s", name, text)
		}
		if tree != nil && !strings.Contains(text, "8.0 KiB  /bin/app") {
			t.Errorf("the size of the file is not told:\n%s", text)
		}
	}
}

// TestARegistryInTroubleIsAsked has one that answers, but with errors.
func TestARegistryInTroubleIsAsked(t *testing.T) {
	_, advice := told(t, Make(Input{Title: "host.test/app:1", Timeline: &control.Timeline{Snapshot: timeline.Snapshot{Events: []timeline.Event{
		{Kind: timeline.Fetch, Site: "registry host.test", Err: "read bytes 0 to 9 of host.test/app@sha256:1: host.test answers 503 Service Unavailable"},
	}}}}))
	if want := `See to registry host.test first: "pagein inspect host.test/app:1" asks it, pagein status shows what is wrong now.`; !strings.Contains(advice, want) {
		t.Errorf("%s, want %s", advice, want)
	}
}

func TestCausesAreToldBriefly(t *testing.T) {
	for text, want := range map[string]string{
		`read bytes 1 to 2 of host.test/a/b@sha256:1: Get "https://mirror.test/v2/x": dial tcp: lookup mirror.test: no such host`: "mirror.test: lookup mirror.test: no such host",
		"given up after 5s: read bytes 1 to 2 of host.test/a@sha256:1: no answer yet":                                             "host.test: no answer yet",
		"read bytes 1 to 2 of host.test/a@sha256:1: https://host.test: the server sent next to nothing":                           "host.test: the server sent next to nothing",
		"read bytes 1 to 2 of host.test/a@sha256:1: host.test: 503 Service Unavailable":                                           "host.test: 503 Service Unavailable",
		"read bytes 1 to 2 of /srv/blob: input/output error":                                                                      "input/output error",
		strings.Repeat("x", 200): strings.Repeat("x", maxBrief-1) + "…",
		"":                       "",
	} {
		if got := briefly(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestReadsThatWaitNowCount has a reader that waits while no other has had to.
func TestReadsThatWaitNowCount(t *testing.T) {
	r := Make(Input{Timeline: &control.Timeline{
		SourceBytes: 8 << 20,
		Snapshot:    timeline.Snapshot{Steps: []timeline.Step{{From: 0, To: 300 * time.Millisecond}}, Curves: []timeline.Curve{{Reason: "prefetch", Bytes: []int64{4 << 20}}}},
		Waiting:     []control.Waiter{{Len: 4096, For: 5900 * time.Millisecond}},
	}})
	text, _ := told(t, r)
	if strings.Contains(text, "o read waited") || strings.Count(text, "1 read waits now, for up to 5.9 s") != 2 {
		t.Error(text)
	}
	if !strings.Contains(text, "the rate is the most that came in 200 ms of this recording") {
		t.Errorf("it is not said what the rate is:\n%s", text)
	}
	var page strings.Builder
	if err := r.HTML(&page); err != nil || !strings.Contains(page.String(), "1 read waits now") {
		t.Errorf("the page says nothing of it: %v", err)
	}
}
