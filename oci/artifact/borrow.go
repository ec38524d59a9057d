package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci/registry"
)

// Borrowed is a blob of another artifact, a dictionary. An artifact must be complete where it is, so what its place does not have is taken
// there: by the registry itself, if the dictionary is in another of its repositories, else by copying.
type Borrowed struct {
	Blob     Blob  // as the dictionary lists it
	From     Place // where the dictionary is
	Replaced bool  // the artifact takes the place of the one that it borrows from: its data is scattered no further
}

// size is how many bytes a blob brings to a target at most, so far as it is known.
func (b *BlobContents) size() int64 {
	if b.Borrowed == nil {
		return b.Map.SourceSize(0)
	}
	sum := int64(0)
	for _, desc := range b.Borrowed.Blob.Layers() {
		sum += desc.Size
	}
	return sum
}

// borrow lists another artifact's blob and brings what is missing to the target.
func (p *pusher) borrow(ctx context.Context, b *Borrowed) (ConfigBlob, error) {
	cb := ConfigBlob{ID: b.Blob.ID, Size: b.Blob.Size, MapSize: b.Blob.MapSize, Map: b.Blob.Map.Digest, Depth: b.Blob.Depth}
	if !b.Replaced {
		cb.Depth++
	}
	for _, src := range b.Blob.Sources {
		cb.Sources = append(cb.Sources, src.Digest)
		p.listObject(src) // the places that have it go on to have it
	}
	if b.Blob.Index != nil {
		cb.Index, cb.IndexSize = b.Blob.Index.Digest, b.Blob.IndexSize
	}
	for _, desc := range b.Blob.Layers() {
		desc = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
		if !p.list(desc) {
			continue
		}
		if err := p.bring(ctx, desc, b.From); err != nil {
			return ConfigBlob{}, fmt.Errorf("bring %s of blob %s from the dictionary: %w", desc.Digest, b.Blob.ID, err)
		}
	}
	return cb, nil
}

// bring puts a layer from elsewhere into the target.
func (p *pusher) bring(ctx context.Context, desc ocispec.Descriptor, from Place) error {
	copied := false
	fetch := func() (io.ReadCloser, error) {
		copied = true
		r, err := from.Target().Fetch(ctx, desc)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{p.progress.count(r), r}, nil
	}
	sent, err := p.send(ctx, desc, func(ctx context.Context) error {
		if err := p.mount(ctx, desc, from, fetch); err == nil || copied {
			return err
		}
		r, err := fetch()
		if err != nil {
			return err
		}
		// Targets refuse bytes of another digest. HTTP would close what it can.
		return errors.Join(p.dst.Push(ctx, desc, struct{ io.Reader }{r}), r.Close())
	})
	switch {
	case sent && copied:
		p.done.Copied += desc.Size
	case sent:
		p.done.Mounted += desc.Size
	}
	return err
}

// errElsewhere says that a layer is in no repository of the target's registry.
var errElsewhere = errors.New("the dictionary is in another place")

// mount asks the target's registry to take the layer from another of its repositories. If it would rather be given the bytes, they come from fetch.
func (p *pusher) mount(ctx context.Context, desc ocispec.Descriptor, from Place, fetch func() (io.ReadCloser, error)) error {
	to, ok := p.dst.(*registry.Repository)
	if !ok || from.Repository == nil || to.Reference.Registry != from.Repository.Reference.Registry {
		return errElsewhere
	}
	return to.Mount(ctx, desc, from.Repository.Reference.Repository, fetch)
}
