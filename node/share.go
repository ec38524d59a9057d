package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/store"
)

// sharedBlob is a blob that some attached images use.
type sharedBlob struct {
	*ondemand.Blob
	raw     []byte            // its map, from the store
	objects []*backend.Places // its source objects, in the map's order, from the places of all its images
	users   int
}

// share returns the blob for one more image. The caller holds n.mu.
func (n *Node) share(ctx context.Context, o origin, r blobRecord) (*ondemand.Blob, error) {
	if b := n.blobs[r.ID]; b != nil {
		if err := n.join(b, o, r); err != nil {
			return nil, err
		}
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
	n.blobs[r.ID] = b
	return b.Blob, nil
}

func (n *Node) openBlob(o origin, r blobRecord, raw []byte) (*sharedBlob, error) {
	m, err := blob.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("map of blob %s: %w", r.ID, err)
	}
	b := &sharedBlob{raw: raw, users: 1}
	var objects []backend.Object
	for _, s := range r.Sources {
		object, err := n.remotes.object(o, s)
		if err != nil {
			return nil, err
		}
		places := backend.NewPlaces(n.log, placeKey(o, s), object)
		b.objects, objects = append(b.objects, places), append(objects, places)
	}
	b.Blob, err = n.engine.Blob(m, objects)
	return b, err
}

// join has a blob read from one more image's places too: those that came first may lie, or be gone. The caller holds n.mu.
func (n *Node) join(b *sharedBlob, o origin, r blobRecord) error {
	if len(r.Sources) != len(b.objects) {
		return fmt.Errorf("blob %s has %d source objects, not %d", r.ID, len(b.objects), len(r.Sources))
	}
	objects := make([]backend.Object, len(r.Sources))
	for i, s := range r.Sources {
		var err error
		if objects[i], err = n.remotes.object(o, s); err != nil {
			return err
		}
		if want := b.objects[i].Size(); s.Size != want {
			return fmt.Errorf("source object %d of blob %s has %d bytes, not %d", i, r.ID, want, s.Size)
		}
	}
	for i, s := range r.Sources {
		b.objects[i].Add(placeKey(o, s), objects[i])
	}
	return nil
}

// leave takes back a join. The caller holds n.mu.
func (b *sharedBlob) leave(o origin, r blobRecord) {
	for i, s := range r.Sources {
		b.objects[i].Drop(placeKey(o, s))
	}
}

// maxAlso bounds at how many other places an image is.
const maxAlso = 16

// joinImage has an attached image read from where it was asked for again too. That it cannot be is no reason to refuse it. The caller holds n.mu.
func (n *Node) joinImage(img *image, r record) {
	known := func(other record) bool { return other.Origin == r.Origin }
	if known(img.record) || slices.ContainsFunc(img.also, known) || len(img.also) == maxAlso {
		return
	}
	for i, b := range r.Blobs {
		if err := n.join(n.blobs[b.ID], r.Origin, b); err != nil {
			n.log.Warn("image is not read from another place", "image", img.ID, "ref", r.Origin.Ref, "err", err)
			r.Blobs = r.Blobs[:i]
			break
		}
	}
	img.also = append(img.also, r)
}

// unshare takes the image off its blobs and closes those that no other image uses, whose maps the caller unmaps when the transport has let go of them. The
// caller holds n.mu.
func (n *Node) unshare(img *image) (closed []*sharedBlob) {
	for i, b := range img.attached.Blobs {
		shared := n.blobs[b.ID()]
		if shared.users--; shared.users == 0 {
			b.Close()
			delete(n.blobs, b.ID())
			closed = append(closed, shared)
			continue
		}
		for _, r := range slices.Concat(img.also, []record{img.record}) {
			if i < len(r.Blobs) {
				shared.leave(r.Origin, r.Blobs[i])
			}
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
