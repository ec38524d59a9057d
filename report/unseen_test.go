package report

import (
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

// perfectStart is an image whose hot blob came at once, and of which nobody had to wait for anything.
func perfectStart() Input {
	asked := time.Unix(100, 0)
	tree := &Tree{Files: []File{{"/bin/app", 8 << 20, 8 << 20}, {"/lib/big", 4 << 20, 4 << 20}, {"/share/doc", 30 << 20, 30 << 20}},
		spans: map[int][]span{0: {{0, 30 << 20, 2, 0}, {30 << 20, 34 << 20, 1, 0}}, 1: {{0, 8 << 20, 0, 0}}}}
	return Input{Tree: tree, Link: 20 << 20, Timeline: &control.Timeline{
		Image: control.Image{Ref: "x", TotalBytes: 42 << 20}, HotBytes: 8 << 20, SourceBytes: 20 << 20, Asked: asked, Loaded: asked, Mounted: asked.Add(25 * time.Millisecond),
		Snapshot: timeline.Snapshot{Began: asked, Events: []timeline.Event{
			{Kind: timeline.Fetch, Blob: 1, Len: 6 << 20, Reason: "prefetch", Site: "s", Bytes: 3 << 20}, {Kind: timeline.Fetch, Blob: 1, Off: 6 << 20, Len: 2 << 20, Reason: "prefetch", Site: "s", Bytes: 1 << 20},
			{Kind: timeline.Fetch, Off: 0, Len: 2 << 20, Reason: "prefetch", Site: "s", Err: "down"},
		}, Steps: []timeline.Step{{From: 0, To: 300 * time.Millisecond}}, Curves: []timeline.Curve{{Reason: "prefetch", Bytes: []int64{4 << 20}}}},
	}}
}

func TestAStartWithoutWaitsIsNotOneWithoutReads(t *testing.T) {
	r := Make(perfectStart())
	if i := r.Image; i.Brought != 8<<20 || i.InFiles != 1 {
		t.Errorf("prefetched are %d bytes of %d files", i.Brought, i.InFiles)
	}
	var html strings.Builder
	if err := r.HTML(&html); err != nil {
		t.Fatal(err)
	}
	text, _ := told(t, r)
	page := html.String()
	for _, want := range []string{`<dt>Read</dt><dd class="value">not seen</dd><dd>of 42 MiB, unpacked</dd>`, `<dt>Files read</dt><dd class="value">not seen</dd>`, `class="key brought"`, `<rect class="brought"`, "/bin/app: 8.0 MiB, 0 % read, 100 % prefetched", "Prefetched beside that", "4.0 MiB until"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has nothing of %s", want)
		}
	}
	for _, not := range []string{"0 B until", `<polyline class="prefetched"`} {
		if strings.Contains(page, not) {
			t.Errorf("the page has %s", not)
		}
	}
	if !strings.Contains(text, "not seen of 42 MiB, unpacked\n") || !strings.Contains(text, "8.0 MiB more in 1 file") || strings.Contains(text, "what was read in 0") {
		t.Error(text)
	}
	// What was read of what was prefetched is no more than read.
	in := perfectStart()
	in.Timeline.Events = append(in.Timeline.Events, timeline.Event{Kind: timeline.Touch, Blob: 1, Off: 1 << 20, Len: 2 << 20})
	if i := Make(in).Image; i.Brought != 6<<20 || i.ReadBytes != 2<<20 {
		t.Errorf("read are %d bytes, prefetched %d others", i.ReadBytes, i.Brought)
	}
}
