package node

import (
	"slices"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

// TestRecordingsBeginWithTheFirstQuestion has an image that nobody reads for long after its mount.
func TestRecordingsBeginWithTheFirstQuestion(t *testing.T) {
	const hour = time.Hour
	touches, first := firstTouches(timeline.Snapshot{Events: []timeline.Event{
		{Kind: timeline.Fetch, At: time.Second, Len: 1},
		{Kind: timeline.Wait, At: hour + time.Second, Off: 4096, Len: 4096, Took: time.Second},
		{Kind: timeline.Touch, Blob: 1, At: hour, Len: 4096},
		{Kind: timeline.Wait, At: hour + recordingTime, Off: 8192, Len: 4096},
	}})
	want := []control.Touch{{Blob: 1, Len: 4096}, {Off: 4096, Len: 4096, At: time.Second}}
	if first != hour || !slices.Equal(touches, want) {
		t.Errorf("from %s on %+v, want %+v", first, touches, want)
	}
	if touches, _ := firstTouches(timeline.Snapshot{}); touches != nil {
		t.Errorf("of nothing there is %+v", touches)
	}
}
