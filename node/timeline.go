package node

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

// maxWaiting bounds how many waiting readers are told of.
const maxWaiting = 100

// history is what is remembered of how an image was mounted and read. Its fields are guarded by the node's mu.
type history struct {
	recorder *timeline.Recorder
	adopted  bool      // an earlier daemon served it
	asked    time.Time // zero if no mount is why the image was attached, as the two after it
	loaded   time.Time
	mounted  time.Time
	recorded bool // its first minute is saved

	start *timeline.Recorder // of the first minute of a container that came later; nil if none is recorded
}

// remember begins to record what happens to the image.
func (img *image) remember() {
	img.history = history{recorder: img.newRecorder()}
}

// forget ends that.
func (img *image) forget() { img.end(img.history.recorder) }

// newRecorder returns a recorder of what happens to the image from now on.
func (img *image) newRecorder() *timeline.Recorder {
	r := timeline.NewRecorder()
	for i, b := range img.attached.Blobs {
		b.Record(r, i)
	}
	return r
}

// end has a recorder be told nothing more.
func (img *image) end(r *timeline.Recorder) {
	for _, b := range img.attached.Blobs {
		b.Unrecord(r)
	}
}

// was notes when a mount was asked for, had all that it needs, and was there, if the image was attached for it: other mounts are not how the story begins.
func (h *history) was(asked, loaded time.Time) {
	if h.mounted.IsZero() && !h.recorder.Began().Before(asked) {
		h.asked, h.loaded, h.mounted = asked, loaded, time.Now()
	}
}

// Timeline tells what happened to a mounted image.
func (n *Node) Timeline(_ context.Context, id string, last time.Duration) (control.Timeline, error) {
	if err := n.enter(); err != nil {
		return control.Timeline{}, err
	}
	defer n.mu.Unlock()
	img := n.images[id]
	if img == nil {
		return control.Timeline{}, control.Errorf(control.NotFound, "image %s is not mounted, or cannot be served: see pagein status", id)
	}
	status, err := img.status()
	if err != nil {
		return control.Timeline{}, err
	}
	status.Policy = n.words(img.Policy)
	h, now := &img.history, time.Now()
	since := time.Duration(0)
	if last > 0 {
		since = h.recorder.Since(now.Add(-last))
	}
	return control.Timeline{
		Image: status, Meta: n.store.MetaPath(id), SourceBytes: img.sourceBytes(), HotBytes: img.hotBytes(), HostBandwidth: max(n.cfg.Engine.HostBandwidth, 0), Asked: h.asked, Loaded: h.loaded, Mounted: h.mounted, Adopted: h.adopted,
		Now: now, Snapshot: h.recorder.Snapshot(since), Waiting: img.waiting(),
	}, nil
}

// sourceBytes is the size of all source objects of the image.
func (img *image) sourceBytes() (sum int64) {
	seen := make(map[digest.Digest]bool)
	for _, b := range img.Blobs {
		for _, s := range b.Sources {
			if d := digest.Digest(s.Digest); !seen[d] {
				seen[d] = true
				sum += s.Size
			}
		}
	}
	return sum
}

// hotBytes is how much of the image is laid out for a workload.
func (img *image) hotBytes() (sum int64) {
	for _, b := range img.Blobs {
		sum += b.Hot
	}
	return sum
}

// waiting lists the readers that wait now.
func (img *image) waiting() []control.Waiter {
	all := []control.Waiter{}
	for i, b := range img.attached.Blobs {
		for _, w := range b.Waiting() {
			all = append(all, control.Waiter{Blob: i, Off: w.Off, Len: w.Len, For: time.Since(w.Since)})
		}
	}
	slices.SortFunc(all, func(a, b control.Waiter) int { return int(b.For - a.For) })
	return all[:min(len(all), maxWaiting)]
}
