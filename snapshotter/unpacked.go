package snapshotter

import (
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/snapshotters"

	"github.com/pagein/pagein/oci/artifact"
)

// maxUnpacked bounds how many images are remembered that were unpacked: what people who ask why have just pulled, and answers that fit on a screen.
const maxUnpacked = 16

// Unpacked is an image that containerd said the name of, and that was unpacked all the same.
type Unpacked struct {
	Image  string    // as containerd calls it, or where it says that its artifact is
	Reason string    // why no artifact stands for it, or for one of its layers
	At     time.Time // when that was found, last
}

// Unpacked lists images that were unpacked since the snapshots were opened, the newest first. One that became lazy since is none.
func (s *Snapshotter) Unpacked() []Unpacked { return s.unpacked.list() }

// unpackedImages remembers the newest ones. The zero value is ready.
type unpackedImages struct {
	mu  sync.Mutex
	all []Unpacked // the newest last, each image once
}

// note remembers an image.
func (u *unpackedImages) note(labels map[string]string, reason error) {
	name := shownName(labels)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remove(name)
	u.all = append(u.all, Unpacked{Image: name, Reason: reason.Error(), At: time.Now()})
	u.all = slices.Delete(u.all, 0, max(len(u.all)-maxUnpacked, 0))
}

// forget is for an image that is lazy now.
func (u *unpackedImages) forget(labels map[string]string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remove(shownName(labels))
}

func (u *unpackedImages) remove(name string) {
	u.all = slices.DeleteFunc(u.all, func(other Unpacked) bool { return other.Image == name })
}

func (u *unpackedImages) list() []Unpacked {
	u.mu.Lock()
	defer u.mu.Unlock()
	newest := slices.Clone(u.all)
	slices.Reverse(newest)
	return newest
}

// shownName is what people know an image by.
func shownName(labels map[string]string) string {
	if name := labels[snapshotters.TargetRefLabel]; name != "" {
		return name
	}
	return labels[artifact.Annotation]
}
