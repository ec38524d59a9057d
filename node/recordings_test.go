package node

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/store"
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

// recorded is a node with one image, which is recorded from now on.
func recorded(t *testing.T) (*Node, *image) {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	img := &image{record: record{ID: strings.Repeat("ab", 32)}, attached: &ondemand.Image{}, targets: []string{"/mnt"}, history: history{recorder: timeline.NewRecorder()}}
	return &Node{log: slog.New(slog.DiscardHandler), store: s, images: map[string]*image{img.ID: img}}, img
}

// TestAMinuteIsRecordedOnce has an image that is first read two hours after its mount.
func TestAMinuteIsRecordedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, img := recorded(t)
		want := func(when string, ended ...time.Duration) {
			t.Helper()
			n.saveRecordings()
			all, err := n.Recordings(t.Context(), img.ID)
			if err != nil {
				t.Fatal(err)
			}
			var got []time.Duration
			for _, rec := range all.Recordings {
				got = append(got, rec.Ended)
			}
			if !slices.Equal(got, ended) {
				t.Errorf("%s there are recordings of %v, want %v", when, got, ended)
			}
		}
		time.Sleep(2 * time.Hour)
		want("before anything was read")
		img.history.recorder.Touch(0, 0, 4096, time.Now())
		time.Sleep(30 * time.Second)
		want("after half a minute", 30*time.Second)
		time.Sleep(30 * time.Second)
		want("after a minute", recordingTime)
		time.Sleep(time.Hour)
		n.record(img)
		want("when the image is gone", recordingTime)
		delete(n.images, img.ID)
		want("afterwards", recordingTime)
	})
}

// TestTheFirstMinuteOfEachContainerIsRecorded has containers begin while the image's own first minute is recorded, long after it, together, and without reading anything.
func TestTheFirstMinuteOfEachContainerIsRecorded(t *testing.T) {
	for _, adopted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n, img := recorded(t)
			img.history.adopted = adopted
			touch := func(page int64) {
				r := img.history.start
				if r == nil {
					r = img.history.recorder
				}
				r.Touch(0, page*4096, 4096, time.Now())
			}
			var want []int64
			check := func(when string, pages ...int64) {
				t.Helper()
				want = append(want, pages...)
				n.saveRecordings()
				all, err := n.Recordings(t.Context(), img.ID)
				if err != nil {
					t.Fatal(err)
				}
				var got []int64
				for _, rec := range all.Recordings {
					for _, touch := range rec.Touches {
						got = append(got, touch.Off/4096)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("adopted %v, %s: pages %v are recorded, want %v", adopted, when, got, want)
				}
			}
			n.Begins("/elsewhere")
			n.Begins("/mnt")
			touch(1)
			time.Sleep(recordingTime / 2)
			n.Begins("/mnt")
			touch(2)
			check("two containers in one minute", 1, 2)
			time.Sleep(time.Hour)
			check("an hour later")
			touch(3)
			check("what no container begins with")
			n.Begins("/mnt")
			time.Sleep(recordingTime)
			check("after a container that reads nothing")
			touch(4)
			check("what is read later")
			n.Begins("/mnt")
			touch(5)
			check("a container of its own", 5)
			time.Sleep(recordingTime / 2)
			n.record(img)
			delete(n.images, img.ID)
			check("when the image is gone")
		})
	}
}

// TestOnlyStartsAreRecorded has images that were in use before this daemon: what is read of them now says nothing of how they start.
func TestOnlyStartsAreRecorded(t *testing.T) {
	for _, adopted := range []bool{false, true} {
		n, img := recorded(t)
		img.history.adopted = adopted
		img.history.recorder.Touch(0, 0, 4096, time.Now())
		for range 2 {
			all, err := n.Recordings(t.Context(), img.ID)
			if err != nil || len(all.Recordings) > 0 == adopted {
				t.Errorf("adopted %v: %+v, %v", adopted, all, err)
			}
			n.record(img)
		}
	}
}

// TestTheStoryBeginsWithTheMountThatAttachedTheImage has later mounts of the same image.
func TestTheStoryBeginsWithTheMountThatAttachedTheImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := time.Now()
		time.Sleep(time.Second)
		mounted, adopted := history{recorder: timeline.NewRecorder()}, history{recorder: timeline.NewRecorder(), adopted: true}
		mounted.was(asked, asked)
		time.Sleep(time.Hour)
		mounted.was(time.Now(), time.Now())
		adopted.was(time.Now(), time.Now())
		if !mounted.asked.Equal(asked) || !adopted.asked.IsZero() {
			t.Errorf("mounted %s, adopted %s, want %s and none", mounted.asked, adopted.asked, asked)
		}
	})
}
