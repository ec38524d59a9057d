package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

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
	Blobs    []blobRecord // in device slot order
}

type blobRecord struct {
	ID      string
	Sources []sourceRecord
}

type sourceRecord struct {
	Digest string
	Size   int64
}

// image is an attached image.
type image struct {
	record
	transport ondemand.Transport
	attached  *ondemand.Image
	spec      kmount.EROFS
	prepared  bool          // attached because somebody asked for its mount command
	watch     int32         // of its superblock, 0 when it was never mounted here
	targets   []string      // where it was mounted by us and has not been unmounted by us
	dropped   chan struct{} // closed when the image is not attached any more
}

// sharedBlob is a blob that some attached images use.
type sharedBlob struct {
	*ondemand.Blob
	raw   []byte // its map, from the store
	users int
}

// attach makes an image answerable whose metadata and maps are in the store. The caller holds n.mu.
func (n *Node) attach(ctx context.Context, r record, tr ondemand.Transport) (*image, error) {
	img := &image{
		record: r, transport: tr, dropped: make(chan struct{}),
		attached: &ondemand.Image{ID: r.ID, MetaPath: n.store.MetaPath(r.ID), MetaSize: r.MetaSize},
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
	n.images[r.ID] = img
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
	closed := n.unshare(img)
	if err := img.transport.Detach(ctx, img.attached); err != nil {
		n.log.Warn("image is not cleanly detached", "image", img.ID, "err", err)
	}
	n.unmap(closed)
	close(img.dropped)
	if err := n.save(); err != nil {
		n.log.Error("mount table is not saved", "err", err)
	}
	n.log.Info("image is not mounted any more", "image", img.ID, "ref", img.Origin.Ref)
}

// gone is called when the kernel has dropped a superblock.
func (n *Node) gone(wd int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, img := range n.images {
		if img.watch == wd {
			img.watch, img.targets = 0, nil
			if !img.prepared {
				n.detach(context.Background(), img)
			}
			return
		}
	}
}

// mounts returns where the image is mounted, by whomever, in this mount namespace.
func (img *image) mounts() ([]string, error) {
	all, err := kmount.List()
	if err != nil {
		return nil, err
	}
	var targets []string
	for _, m := range all {
		if m.Source == img.spec.Source || img.spec.Fsid != "" && m.Option("fsid") == img.spec.Fsid {
			targets = append(targets, m.Target)
		}
	}
	slices.Sort(targets)
	return targets, nil
}
