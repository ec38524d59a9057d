package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/remote"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/store"
)

// origin is where an image comes from, as it was asked for.
type origin struct {
	Ref       string
	PlainHTTP bool `json:",omitempty"`
	Insecure  bool `json:",omitempty"`
}

// remotes shares connections to registries between all images.
type remotes struct {
	*remote.Remote

	mu      sync.Mutex
	clients map[manner]*registry.Client
}

// manner is how an image's registry is to be spoken to.
type manner struct{ plainHTTP, insecure bool }

func (r *remotes) client(o origin) (*registry.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	as := manner{o.PlainHTTP, o.Insecure}
	if c := r.clients[as]; c != nil {
		return c, nil
	}
	c, err := registry.NewClient(r.Registry(registry.Options{PlainHTTP: o.PlainHTTP, Insecure: o.Insecure}))
	if err != nil {
		return nil, err
	}
	if r.clients == nil {
		r.clients = make(map[manner]*registry.Client)
	}
	r.clients[as] = c
	return c, nil
}

func (r *remotes) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clients {
		c.Close()
	}
}

// object returns a source object, preferably from the places that its descriptor names. It does not ask whether the object is there, so an image can be attached while its
// origin is not.
func (r *remotes) object(o origin, s sourceRecord) (backend.Object, error) {
	at, err := r.atOrigin(o, s)
	if err != nil {
		return nil, err
	}
	return r.Prefer(s.URLs, at), nil
}

// placeKey tells the places of source objects apart: it is the same for those that object gives the same object for.
func placeKey(o origin, s sourceRecord) string {
	at := o.Ref
	if ref, err := oci.ParseRef(o.Ref); err == nil {
		ref.Tag, ref.Digest = "", ""
		at = ref.String()
	}
	return fmt.Sprintf("%v %v %s %s %q", o.PlainHTTP, o.Insecure, at, s.Digest, s.URLs)
}

// atOrigin returns a source object as it is beside the artifact.
func (r *remotes) atOrigin(o origin, s sourceRecord) (backend.Object, error) {
	ref, err := oci.ParseRef(o.Ref)
	if err != nil {
		return nil, err
	}
	if ref.Kind == oci.Layout {
		return backend.Layout(ref.Path, digest.Digest(s.Digest), s.Size)
	}
	c, err := r.client(o)
	if err != nil {
		return nil, err
	}
	repo, err := c.Repository(ref)
	if err != nil {
		return nil, err
	}
	return backend.Registry(repo, ocispec.Descriptor{MediaType: artifact.MediaTypeObject, Digest: digest.Digest(s.Digest), Size: s.Size}), nil
}

// load finds the artifact that o names, or that is attached to the image that o names, and has its metadata image and maps in the store, where they are pinned until the
// caller unpins the record.
func (n *Node) load(ctx context.Context, o origin) (record, error) {
	r, _, err := n.loadArtifact(ctx, o, nil)
	return r, err
}

// loadArtifact is load for those who want to know more of the artifact.
func (n *Node) loadArtifact(ctx context.Context, o origin, accept artifact.Accept) (record, *artifact.Artifact, error) {
	ref, err := oci.ParseRef(o.Ref)
	if err != nil {
		return record{}, nil, control.Errorf(control.Invalid, "%w", err)
	}
	client, err := n.remotes.client(o)
	if err != nil {
		return record{}, nil, err
	}
	place, err := artifact.Open(client, ref)
	if err != nil {
		return record{}, nil, control.Errorf(control.Invalid, "%w", err)
	}
	a, err := n.find(ctx, place, ref, o, accept)
	if err != nil {
		return record{}, nil, err
	}
	r := record{ID: a.MetaDigest.Encoded(), MetaSize: a.MetaSize, Artifact: a.Descriptor.Digest.String(), Origin: o}
	for _, b := range a.Blobs {
		br := blobRecord{ID: b.ID, Hot: b.Hot}
		for _, s := range b.Sources {
			if place.Layout != nil { // asking a registry would cost a round trip for what the first miss will tell
				if ok, err := place.Layout.Exists(ctx, s); (err != nil || !ok) && len(s.URLs) == 0 {
					return record{}, nil, control.Errorf(control.Unavailable, "mount %s: its layout lacks blob %s, or has it in another size: copy or convert the image again", ref, s.Digest)
				}
			}
			br.Sources = append(br.Sources, sourceRecord{Digest: s.Digest.String(), Size: s.Size, URLs: s.URLs})
		}
		r.Blobs = append(r.Blobs, br)
	}
	n.pin(r)
	err = n.fetch(ctx, a)
	for try := 0; try < 2 && isFull(err) && n.room(ctx); try++ {
		err = n.fetch(ctx, a)
	}
	err = advise(err)
	if err == nil {
		if err = n.checkMeta(ctx, r.ID, a); err != nil {
			err = fmt.Errorf("artifact %s: %w", ref, err)
		}
	}
	if err != nil {
		n.unpin(r)
		return record{}, nil, err
	}
	return r, a, nil
}

// find finds the artifact that o and ref mean. Without conditions, the answer may be that of a little while ago if a digest is named.
func (n *Node) find(ctx context.Context, place artifact.Place, ref oci.Ref, o origin, accept artifact.Accept) (*artifact.Artifact, error) {
	if accept == nil {
		if a := n.recent.get(o); a != nil {
			return a, nil
		}
	}
	a, err := place.Find(ctx, ref, nil, accept)
	if errors.Is(err, artifact.ErrNotArtifact) {
		return nil, control.Errorf(control.Invalid, "%w", err)
	}
	if err != nil {
		return nil, control.Errorf(control.Unavailable, "%w", err)
	}
	if err := checkNumber(a); err != nil {
		return nil, fmt.Errorf("artifact %s: %w", ref, err)
	}
	return a, nil
}

// loads is how many parts of an artifact are fetched at the same time: each costs a round trip.
const loads = 16

// fetch has the artifact's metadata image and maps in the store.
func (n *Node) fetch(ctx context.Context, a *artifact.Artifact) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loads)
	g.Go(func() error {
		_, err := n.store.Meta(ctx, a.MetaDigest.Encoded(), a.FetchMeta)
		return err
	})
	for i, b := range a.Blobs {
		g.Go(func() error {
			raw, err := n.store.Map(ctx, b.ID, func(ctx context.Context, w io.Writer) error { return a.WriteMap(ctx, i, w) })
			if err != nil {
				return err
			}
			m, err := blob.Parse(raw)
			if err == nil {
				err = a.CheckMap(i, m)
			}
			return errors.Join(err, store.Unmap(raw))
		})
	}
	return g.Wait()
}
