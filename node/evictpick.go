package node

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/store"
)

// keptObject is something in the store that could go as a whole.
type keptObject struct {
	store.Kept
	kind   string
	files  int64                 // how many files it is
	remove func(id string) error // with [store.ErrOpen] if it turns out to be in use
}

// Kinds of objects, as [control.Evicted] has them.
const (
	kindBlob      = "blob"
	kindMeta      = "meta"
	kindCacheFile = "cachefile"
)

// kept lists what is in the store.
func (n *Node) kept() ([]keptObject, error) {
	blobs, err := n.store.Blobs()
	if err != nil {
		return nil, err
	}
	metas, err := n.store.Metas()
	if err != nil {
		return nil, err
	}
	all, err := n.cacheFiles()
	if err != nil {
		return nil, err
	}
	for _, k := range blobs {
		all = append(all, keptObject{k, kindBlob, 3, n.store.RemoveBlob}) // with its record and its map
	}
	for _, k := range metas {
		all = append(all, keptObject{k, kindMeta, 1, n.store.RemoveMeta})
	}
	return all, nil
}

// pin keeps an image's parts in the store while they are on their way into the tables. Each needs an unpin.
func (n *Node) pin(r record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pins == nil {
		n.pins = make(map[string]int)
	}
	for _, id := range r.parts() {
		n.pins[id]++
	}
}

func (n *Node) unpin(r record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range r.parts() {
		if n.pins[id]--; n.pins[id] == 0 {
			delete(n.pins, id)
		}
	}
}

// parts are the IDs of what an image has in the store.
func (r record) parts() []string {
	ids := []string{r.ID}
	for _, b := range r.Blobs {
		ids = append(ids, b.ID)
	}
	return ids
}

// needed are the IDs of what must stay: of images that are attached, or mounted without being served, or about to be either. The caller holds n.mu.
func (n *Node) needed() map[string]bool {
	needed := make(map[string]bool)
	for id := range n.pins {
		needed[id] = true
	}
	note := func(r record) {
		for _, id := range r.parts() {
			needed[id] = true
		}
	}
	for _, img := range n.images {
		note(img.record)
	}
	for _, i := range slices.Concat(n.lost, n.absent) {
		note(i.record)
	}
	return needed
}

// idle lists what nobody needs: blobs and the kernel's cache files first, then metadata images, which are small and spare the next mount a fetch; of each, what was used longest ago first. The
// caller holds n.mu.
func (n *Node) idle() ([]keptObject, error) {
	all, err := n.kept()
	if err != nil {
		return nil, err
	}
	needed := n.needed()
	all = slices.DeleteFunc(all, func(o keptObject) bool { return needed[o.ID] || o.Open })
	slices.SortFunc(all, func(a, b keptObject) int {
		return cmp.Or(compareBool(a.kind == kindMeta, b.kind == kindMeta), a.Used.Compare(b.Used), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// evictIdle removes what nobody needs until want is given back, or only says what that would be. What cannot be removed stays, and is in the error. The caller holds n.mu.
func (n *Node) evictIdle(want amount, dry bool) (gone []control.Evicted, freed amount, err error) {
	idle, err := n.idle()
	if err != nil {
		return nil, amount{}, err
	}
	for _, o := range idle {
		if freed.enough(want) {
			break
		}
		if !dry {
			if removeErr := o.remove(o.ID); removeErr != nil {
				if !errors.Is(removeErr, store.ErrOpen) {
					err = errors.Join(err, removeErr)
				}
				continue
			}
		}
		gone = append(gone, control.Evicted{Kind: o.kind, ID: o.ID, Bytes: o.Allocated, Used: o.Used})
		freed.bytes += o.Allocated
		freed.files += o.files
	}
	return gone, freed, err
}

// idleTarget returns a directory on which something is mounted that has not been used for that long, the one that was used longest ago. The caller holds n.mu.
func (n *Node) idleTarget(since time.Duration, tried map[string]bool) (target string, ok bool) {
	var oldest time.Time
	reserved := n.cfg.Reserved
	if resolved, err := filepath.EvalSymlinks(reserved); err == nil {
		reserved = resolved // as targets are
	}
	for _, img := range n.images {
		used := img.used()
		if img.prepared || time.Since(used) < since || ok && !used.Before(oldest) {
			continue
		}
		if slices.ContainsFunc(img.targets, func(t string) bool { return reserved != "" && strings.HasPrefix(t, reserved+"/") }) {
			continue
		}
		for _, t := range img.targets {
			if !tried[t] {
				target, oldest, ok = t, used, true
				break
			}
		}
	}
	return target, ok
}

// used is when the kernel last wanted bytes of the image that it had not cached, or when the image was attached.
func (img *image) used() time.Time {
	used := img.since
	for _, b := range img.attached.Blobs {
		if t := b.Used(); t.After(used) {
			used = t
		}
	}
	return used
}

// evicter is a transport that can evict ranges of what is mounted.
type evicter interface {
	Evict(b *ondemand.Blob, want int64) (int64, error)
}

// mountedBlob is a blob with the transport that could evict parts of it.
type mountedBlob struct {
	blob *ondemand.Blob
	by   evicter
}

// mountedBlobs lists blobs of which ranges can be evicted, the one that was used longest ago first. What is being prefetched stays, and what an image has that is mounted and not
// served, of whose reads nobody knows. The caller holds n.mu.
func (n *Node) mountedBlobs() []mountedBlob {
	unknown := make(map[string]bool)
	for _, i := range n.lost {
		for _, id := range i.parts() {
			unknown[id] = true
		}
	}
	var all []mountedBlob
	for _, img := range n.images {
		by, ok := img.transport.(evicter)
		if !ok || img.prefetches.running() {
			continue
		}
		for _, b := range img.attached.Blobs {
			if !unknown[b.ID()] && !slices.ContainsFunc(all, func(m mountedBlob) bool { return m.blob == b }) {
				all = append(all, mountedBlob{b, by})
			}
		}
	}
	slices.SortFunc(all, func(a, b mountedBlob) int { return a.blob.Used().Compare(b.blob.Used()) })
	return all
}
