package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/store"
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

	prefetches prefetches
}

// sharedBlob is a blob that some attached images use.
type sharedBlob struct {
	*ondemand.Blob
	raw   []byte // its map, from the store
	users int
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
	n.prefetch(img)
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
	return img, nil
}

// share returns the blob for one more image. The caller holds n.mu.
func (n *Node) share(ctx context.Context, o origin, r blobRecord) (*ondemand.Blob, error) {
	if b := n.blobs[r.ID]; b != nil {
		b.users++
		return b.Blob, nil
	}
	raw, err := n.store.Map(ctx, r.ID, func(context.Context, io.Writer) error {
		return errors.New("it is not in the store: unmount the image and mount it again")
	})
	if err != nil {
		return nil, fmt.Errorf("map of blob %s: %w", r.ID, err)
	}
	b, err := n.openBlob(o, r, raw)
	if err != nil {
		return nil, errors.Join(err, store.Unmap(raw))
	}
	n.blobs[r.ID] = &sharedBlob{Blob: b, raw: raw, users: 1}
	return b, nil
}

func (n *Node) openBlob(o origin, r blobRecord, raw []byte) (*ondemand.Blob, error) {
	m, err := blob.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("map of blob %s: %w", r.ID, err)
	}
	var objects []backend.Object
	for _, s := range r.Sources {
		object, err := n.remotes.object(o, s)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return n.engine.Blob(m, objects)
}

// unshare takes the image off its blobs and closes those that no other image uses, whose maps the caller unmaps when the transport has let go of them. The
// caller holds n.mu.
func (n *Node) unshare(img *image) (closed []*sharedBlob) {
	for _, b := range img.attached.Blobs {
		shared := n.blobs[b.ID()]
		if shared.users--; shared.users == 0 {
			b.Close()
			delete(n.blobs, b.ID())
			closed = append(closed, shared)
		}
	}
	return closed
}

// unmap gives back the maps of closed blobs that nobody uses any more.
func (n *Node) unmap(closed []*sharedBlob) {
	for _, b := range closed {
		if err := store.Unmap(b.raw); err != nil {
			n.log.Warn("map stays in memory", "blob", b.ID(), "err", err)
		}
	}
}

// detach forgets an image that the kernel has let go of. The caller holds n.mu.
func (n *Node) detach(ctx context.Context, img *image) {
	if n.images[img.ID] != img {
		return
	}
	delete(n.images, img.ID)
	img.prefetches.end()
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
