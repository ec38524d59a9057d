package report

import (
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

// TestComputedLinesBeginAtTheMount has readers who came long after it, so that the picture begins later.
func TestComputedLinesBeginAtTheMount(t *testing.T) {
	asked := time.Unix(100, 0)
	r := Make(Input{Link: 1 << 20, Timeline: &control.Timeline{
		Asked: asked, Mounted: asked.Add(time.Second), SourceBytes: 26 << 20, Snapshot: timeline.Snapshot{
			Began: asked, Events: []timeline.Event{{Kind: timeline.Wait, At: 24 * time.Second, Took: 10 * time.Second, Len: 4096}},
			Steps: []timeline.Step{{From: 24 * time.Second, To: 33 * time.Second}}, Curves: []timeline.Curve{{Reason: "demand", Bytes: []int64{5 << 20}}},
		},
	}})
	drawn := r.window()
	if drawn.from < 23*time.Second {
		t.Fatalf("drawn is %+v", drawn)
	}
	c := r.chart(drawn)
	full := c.Lines[len(c.Lines)-1]
	if full.Class != "full" || !strings.Contains(full.Words, "until +27.000 s") {
		t.Errorf("the line of a full pull: %+v", full)
	}
	// It begins where it is by then, and is whole from second 27 on.
	if first := c.Rows[0]; first.Full != grown(drawn.from-time.Second, 26*time.Second, 26<<20) || first.Full < 22<<20 {
		t.Errorf("at %s there are %d bytes of a full pull", first.At, first.Full)
	}
	if strings.HasPrefix(full.Points, "80,310 ") {
		t.Errorf("the line begins at nothing: %s", full.Points)
	}
}
