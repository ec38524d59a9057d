package node

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"slices"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

const (
	// recordingTime is how long an image is recorded, from the first question of the kernel.
	recordingTime = time.Minute
	// recordingsPace is how often it is looked whether a recording is over.
	recordingsPace = 10 * time.Second
)

// keepRecordings saves the beginning of what happened to each image, until ctx is done.
func (n *Node) keepRecordings(ctx context.Context) {
	tick := time.NewTicker(recordingsPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.mu.Lock()
		for _, img := range n.images {
			n.record(img, false)
		}
		n.mu.Unlock()
	}
}

// record saves the first minute of an image, or what there is of it if that is all there will be. The caller holds n.mu.
func (n *Node) record(img *image, last bool) {
	h := &img.history
	if h.recorded || !last && time.Since(h.recorder.Began()) < recordingTime {
		return
	}
	rec := control.Recording{Image: img.ID, Ref: img.Origin.Ref}
	touches, first := firstTouches(h.recorder.Snapshot(0))
	if len(touches) == 0 || !last && h.recorder.Since(time.Now()) < first+recordingTime {
		return
	}
	h.recorded = true
	rec.Began, rec.Touches, rec.Ended = h.recorder.Began().Add(first), touches, min(h.recorder.Since(time.Now())-first, recordingTime)
	if err := n.store.SaveRecording(img.ID, rec.Began, rec); err != nil {
		n.log.Warn("what was read of an image is not kept", "ref", img.Origin.Ref, "err", err)
	}
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

// Recordings returns what is kept of an image's first minutes, and of the one that is under way.
func (n *Node) Recordings(_ context.Context, id string) (control.Recordings, error) {
	if err := n.enter(); err != nil {
		return control.Recordings{}, err
	}
	defer n.mu.Unlock()
	all := control.Recordings{Recordings: []control.Recording{}}
	kept, err := n.store.Recordings(id)
	if err != nil {
		return all, err
	}
	for _, raw := range kept {
		var rec control.Recording
		if json.Unmarshal(raw, &rec) == nil && rec.Image == id {
			all.Recordings = append(all.Recordings, rec)
		}
	}
	if img := n.images[id]; img != nil && !img.history.recorded {
		if touches, first := firstTouches(img.history.recorder.Snapshot(0)); len(touches) > 0 {
			began := img.history.recorder.Began().Add(first)
			all.Recordings = append(all.Recordings, control.Recording{Image: id, Ref: img.Origin.Ref, Began: began, Touches: touches, Ended: min(time.Since(began), recordingTime)})
		}
	}
	path := n.store.MetaPath(id)
	if _, err := os.Lstat(path); err == nil {
		all.Meta = path
	}
	return all, nil
}
