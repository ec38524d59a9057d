package artifact

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
)

// OfImage lists the artifacts that stand for an image or the images of an index, each once: those that are attached to them, and those that they name. Names and, in some registries, the list
// of what is attached are whatever somebody pushed: what is no artifact, or is listed and belongs to another image, is left out, lest it is deleted with this one.
func (p Place) OfImage(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	images, err := image.All(ctx, p.Target(), desc)
	if err != nil {
		return nil, err
	}
	var all []ocispec.Descriptor
	add := func(d *ocispec.Descriptor) {
		if d != nil && !slices.ContainsFunc(all, func(other ocispec.Descriptor) bool { return other.Digest == d.Digest }) {
			all = append(all, *d)
		}
	}
	for _, img := range images {
		found, err := p.Attached(ctx, img)
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			d, m, err := p.artifactAt(ctx, d.Digest)
			if err != nil {
				return nil, fmt.Errorf("what is listed as attached to %s: %w", img.Digest, err)
			}
			if d != nil && m.Subject != nil && m.Subject.Digest == img.Digest {
				add(d)
			}
		}
		named, err := p.named(ctx, img)
		if err != nil {
			return nil, fmt.Errorf("artifact that %s names: %w", img.Digest, err)
		}
		add(named)
	}
	return all, nil
}

// named returns the artifact that the image's layers name, nil if they name none.
func (p Place) named(ctx context.Context, img ocispec.Descriptor) (*ocispec.Descriptor, error) {
	name, err := image.AnnotationOf(ctx, p.Target(), img, Annotation)
	if err != nil || name == "" {
		return nil, err
	}
	ref, err := oci.ParseRef(name)
	if err != nil {
		return nil, err
	}
	desc, _, err := p.artifactAt(ctx, ref.Digest) // of the name, only the digest counts
	return desc, err
}

// artifactAt returns the artifact with the given digest and its manifest, or nil if there is none.
func (p Place) artifactAt(ctx context.Context, d digest.Digest) (*ocispec.Descriptor, *ocispec.Manifest, error) {
	if d.Validate() != nil {
		return nil, nil, nil
	}
	desc, err := p.Target().Resolve(ctx, d.String())
	if errors.Is(err, errdef.ErrNotFound) || err == nil && desc.MediaType != ocispec.MediaTypeImageManifest {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, registry.Unresolved(d.String(), err)
	}
	m, err := p.manifest(ctx, desc)
	if err != nil || m.ArtifactType != Type {
		return nil, nil, err
	}
	return &desc, m, nil
}
