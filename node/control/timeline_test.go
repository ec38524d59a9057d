package control

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/ondemand/timeline"
)

func TestTimelinesTravelWhole(t *testing.T) {
	at := time.Unix(9, 5).UTC()
	svc := &fake{
		timeline: Timeline{
			Image: Image{ID: "i", Targets: []string{}}, Meta: "/m", SourceBytes: 1, Asked: at, Loaded: at, Mounted: at, Adopted: true, Now: at,
			Snapshot: timeline.Snapshot{
				Began: at, Missed: 2, Steps: []timeline.Step{{From: 3, To: 4}, {From: 5, To: 6}},
				Events: []timeline.Event{
					{Kind: timeline.Wait, Blob: 1, At: 2, Off: 3, Len: 4, Took: 5, Cost: timeline.Cost{Queue: 6, Server: 7, Transfer: 8, Verify: 9}, Reason: "ahead", Joined: true},
					{Kind: timeline.Fetch, Bytes: 1, Site: "s", Try: 2, Err: "\x00<?"},
					{Kind: timeline.Touch},
				},
				Curves: []timeline.Curve{{Reason: "demand", Bytes: []int64{1, 2}}},
			},
			Waiting: []Waiter{{1, 2, 3, 4}},
		},
		recordings: Recordings{Meta: "/m", Recordings: []Recording{{Image: "i", Ref: "r", Began: at, Touches: []Touch{{1, 2, 3, 4}}, Ended: 5}}},
	}
	c := client(t, serve(t, svc))
	id := strings.Repeat("ab", 32)
	if got, err := c.Timeline(t.Context(), id, time.Minute); err != nil || !reflect.DeepEqual(got, svc.timeline) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Recordings(t.Context(), id); err != nil || !reflect.DeepEqual(got, svc.recordings) {
		t.Errorf("%+v, %v", got, err)
	}
	if want := []any{id, time.Minute, id}; !reflect.DeepEqual(svc.asked, want) {
		t.Errorf("asked %v", svc.asked)
	}
}
