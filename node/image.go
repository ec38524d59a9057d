package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/ondemand"
)

// record is what must be known of an image to attach it without asking anybody: the rest is in the store. It is kept on disk.
type record struct {
	ID       string // SHA-256 of the metadata image
	MetaSize int64
	Artifact string // digest of the artifact's manifest
	Origin   origin
	Policy   policy       // how it is read
	Blobs    []blobRecord // in device slot order
}

type blobRecord struct {
	ID      string
	Hot     int64 `json:",omitempty"` // bytes, from its beginning, that a profile says will be read
	Sources []sourceRecord
}

type sourceRecord struct {
	Digest string
	Size   int64
	URLs   []string `json:",omitempty"` // other places that have it, the preferred ones first
}

// image is an attached image.
type image struct {
	record
	transport ondemand.Transport
	attached  *ondemand.Image
	spec      kmount.EROFS
	prepared  bool           // attached because somebody asked for its mount command
	watches   map[int32]bool // of its superblocks that are alive: more than one where the kernel does not share them
	targets   []string       // where it was mounted by us and has not been unmounted by us
	since     time.Time      // when it was attached
	dropped   chan struct{}  // closed when the image is not attached any more
	also      []record       // the same image at other places, which its blobs are read from too

	backings   []backing // of its superblocks, as far as they are known
	large      bool      // its files are, on average
	direct     bool      // its superblock was told to read past the page cache of its files, see readDirectly
	prefetches prefetches
	history    history
}

// attach makes an image answerable whose metadata and maps are in the store. The caller holds n.mu.
func (n *Node) attach(ctx context.Context, r record, tr ondemand.Transport) (*image, error) {
	var img *image
	err := n.withRoom(func() (err error) {
		img, err = n.tryAttach(ctx, r, tr)
		return err
	})
	if err != nil {
		return nil, err
	}
	// An earlier superblock of it that could not be served is served now, and needs its blobs as long as any other.
	n.lost = slices.DeleteFunc(n.lost, func(i imageState) bool {
		if i.ID != r.ID {
			return false
		}
		for _, wd := range i.Watches {
			img.watches[wd] = true
		}
		img.targets = append(img.targets, i.Targets...)
		img.prepared = img.prepared || i.Prepared
		return true
	})
	n.images[r.ID] = img
	n.setDeadlines(img.attached.Blobs)
	img.remember()
	n.prefetch(img)
	n.prefetchLoader(img)
	return img, nil
}

// tryAttach opens the image's blobs and hands them to the transport. When it fails it has closed those that no other image uses: another try opens them anew. The caller holds
// n.mu.
func (n *Node) tryAttach(ctx context.Context, r record, tr ondemand.Transport) (*image, error) {
	img := &image{
		record: r, transport: tr, watches: make(map[int32]bool), since: time.Now(), dropped: make(chan struct{}),
		attached: &ondemand.Image{ID: r.ID, MetaPath: n.store.MetaPath(r.ID), MetaSize: r.MetaSize, Mounted: !n.transports.served()},
	}
	for _, b := range r.Blobs {
		shared, err := n.share(ctx, r.Origin, b)
		if err != nil {
			n.unmap(n.unshare(img))
			return nil, fmt.Errorf("attach image %s: %w", r.ID, err)
		}
		img.attached.Blobs = append(img.attached.Blobs, shared)
	}
	var err error
	if img.spec, err = tr.Attach(ctx, img.attached); err != nil {
		n.unmap(n.unshare(img))
		return nil, err
	}
	img.large = img.isLarge()
	return img, nil
}

// detach forgets an image that the kernel has let go of. The caller holds n.mu.
func (n *Node) detach(ctx context.Context, img *image) {
	if n.images[img.ID] != img {
		return
	}
	delete(n.images, img.ID)
	img.prefetches.end()
	n.record(img)
	img.forget()
	closed := n.unshare(img)
	if err := img.transport.Detach(ctx, img.attached); err != nil {
		n.log.Warn("image is not cleanly detached", "image", img.ID, "err", err)
	}
	n.unmap(closed)
	n.setDeadlines(img.attached.Blobs)
	close(img.dropped)
	n.saveLater()
	n.log.Info("image is not mounted any more", "image", img.ID, "ref", img.Origin.Ref)
}

// gone is called when the kernel has dropped a superblock.
func (n *Node) gone(wd int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for at, i := range n.lost {
		if !slices.Contains(i.Watches, wd) {
			continue
		}
		i.Watches = slices.DeleteFunc(i.Watches, func(w int32) bool { return w == wd })
		if n.lost[at] = i; len(i.Watches) == 0 && !i.Prepared {
			n.lost = slices.Delete(n.lost, at, at+1)
			n.saveLater()
		}
		return
	}
	for _, img := range n.images {
		if !img.watches[wd] {
			continue
		}
		delete(img.watches, wd)
		if len(img.watches) > 0 {
			return
		}
		img.targets = nil
		if !img.prepared {
			n.detach(context.Background(), img)
		}
		return
	}
}

// mountsChanged is called when mounts came or went, and now and then. A prepared image is mounted by others: its superblock is to be watched as if it were by us, so that the
// keeper knows that it is needed.
func (n *Node) mountsChanged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.unsaved != nil {
		n.saveLater()
	}
	for _, img := range n.images {
		if !img.prepared || len(img.watches) > 0 {
			continue
		}
		mounts, err := img.mounts()
		for _, m := range mounts {
			if top, ok, lookErr := kmount.Lookup(m.Target); lookErr != nil || !ok || top.ID != m.ID {
				continue // under another mount: that one would be watched
			}
			var wd int32
			if wd, err = n.watch.add(m.Target); err == nil {
				img.watches[wd] = true
				err = n.save()
				break
			}
		}
		if err != nil {
			n.log.Warn("mount of a prepared image is not watched", "image", img.ID, "err", err)
		}
	}
}

// mounts returns the mounts of the image, by whomever, in this mount namespace.
func (img *image) mounts() ([]kmount.Info, error) {
	all, err := kmount.List()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m kmount.Info) bool { return !img.is(m) })
	slices.SortFunc(all, func(a, b kmount.Info) int { return strings.Compare(a.Target, b.Target) })
	return all, nil
}

// is reports whether a mount is of this image.
func (img *image) is(m kmount.Info) bool {
	return m.Type == "erofs" && (m.Source == img.attached.MetaPath || img.spec.Fsid != "" && m.Option("fsid") == img.spec.Fsid)
}
