package node

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

const (
	// recordingTime is how long a start is recorded, from the first question of the kernel.
	recordingTime = time.Minute
	// recordingsPace is how often it is looked whether a recording is over.
	recordingsPace = 10 * time.Second
)

// keepRecordings saves how images, and containers of them, began to read, until ctx is done.
func (n *Node) keepRecordings(ctx context.Context) {
	tick := time.NewTicker(recordingsPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.saveRecordings()
	}
}

// saveRecordings saves what is over. Meanwhile others may have the node, as there may be hundreds.
func (n *Node) saveRecordings() {
	n.mu.Lock()
	ids := slices.Collect(maps.Keys(n.images))
	n.mu.Unlock()
	for _, id := range ids {
		n.mu.Lock()
		var rec *control.Recording
		if img := n.images[id]; img != nil {
			rec = img.recording(false)
		}
		n.mu.Unlock()
		n.saveRecording(rec)
	}
}

// Begins is told that a container is about to read what is mounted on a directory: its first minute is recorded, unless another's is under way, to which it then belongs. What was read before is
// in the page cache, so such a recording has only what the container reads besides.
func (n *Node) Begins(target string) {
	if n.enter() != nil {
		return
	}
	defer n.mu.Unlock()
	for _, img := range n.images {
		if slices.Contains(img.targets, target) {
			img.begins()
		}
	}
}

func (img *image) begins() {
	h := &img.history
	if h.start == nil && (h.recorded || h.adopted) {
		h.start = img.newRecorder()
	}
}

// record saves what is recorded of an image, as there will be no more. The caller holds n.mu.
func (n *Node) record(img *image) { n.saveRecording(img.recording(true)) }

func (n *Node) saveRecording(rec *control.Recording) {
	if rec == nil {
		return
	}
	if err := n.store.SaveRecording(rec.Image, rec.Began, rec); err != nil {
		n.log.Warn("what was read of an image is not kept", "ref", rec.Ref, "err", err)
	}
}

// recording returns what is recorded of an image's start, or of a container's, for being saved: nil if there is nothing that is not saved already, or, unless it is the last that there will be,
// if the minute is not over. The caller holds the node's mu.
func (img *image) recording(last bool) *control.Recording {
	h := &img.history
	if h.start != nil {
		if !last && time.Since(h.start.Began()) < recordingTime {
			return nil
		}
		rec := img.recordingOf(h.start)
		img.end(h.start)
		h.start = nil
		return rec
	}
	if h.recorded || !last && time.Since(h.recorder.Began()) < recordingTime {
		return nil
	}
	rec := img.underWay()
	if rec == nil || !last && rec.Ended < recordingTime {
		return nil
	}
	h.recorded = true
	return rec
}

// underWay returns what there is of a recording that is not saved, nil if there is nothing. An image that was in use before this daemon has none before a container begins: what is read of it
// is not how a start reads.
func (img *image) underWay() *control.Recording {
	h := &img.history
	switch {
	case h.start != nil:
		return img.recordingOf(h.start)
	case h.recorded || h.adopted:
		return nil
	}
	return img.recordingOf(h.recorder)
}

func (img *image) recordingOf(r *timeline.Recorder) *control.Recording {
	touches, first := firstTouches(r.Snapshot(0))
	if len(touches) == 0 {
		return nil
	}
	return &control.Recording{Image: img.ID, Ref: img.Origin.Ref, Began: r.Began().Add(first), Touches: touches, Ended: min(r.Since(time.Now())-first, recordingTime)}
}

// firstTouches returns what the kernel asked for from its first question on, for so long as a recording takes, and when that question was.
func firstTouches(s timeline.Snapshot) (touches []control.Touch, first time.Duration) {
	asked := slices.DeleteFunc(s.Events, func(e timeline.Event) bool { return e.Kind == timeline.Fetch })
	slices.SortStableFunc(asked, func(a, b timeline.Event) int { return cmp.Compare(a.At, b.At) })
	for _, e := range asked {
		first = asked[0].At
		if e.At < first+recordingTime {
			touches = append(touches, control.Touch{Blob: e.Blob, Off: e.Off, Len: e.Len, At: e.At - first})
		}
	}
	return touches, first
}

// Recordings returns what is kept of an image's starts, and of the one that is under way.
func (n *Node) Recordings(_ context.Context, id string) (control.Recordings, error) {
	if err := n.enter(); err != nil {
		return control.Recordings{}, err
	}
	var now *control.Recording
	if img := n.images[id]; img != nil {
		now = img.underWay()
	}
	n.mu.Unlock()
	all := control.Recordings{Recordings: []control.Recording{}}
	kept, err := n.store.Recordings(id)
	if err != nil {
		return all, err
	}
	for _, raw := range kept {
		var rec control.Recording
		if json.Unmarshal(raw, &rec) != nil || rec.Image != id {
			continue
		}
		if now != nil && rec.Began.Equal(now.Began) { // it was saved a moment ago
			now = nil
		}
		all.Recordings = append(all.Recordings, rec)
	}
	if now != nil {
		all.Recordings = append(all.Recordings, *now)
	}
	path := n.store.MetaPath(id)
	if _, err := os.Lstat(path); err == nil {
		all.Meta = path
	}
	return all, nil
}
