package artifact

import (
	"context"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/image"
)

// OfImage lists the artifacts that stand for an image or the images of an index, each once: those that are attached to them, and those that they name.
func (p Place) OfImage(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	images, err := image.All(ctx, p.Target(), desc)
	if err != nil {
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, img := range images {
		found, err := p.Attached(ctx, img)
		if err != nil {
			return nil, err
		}
		named, err := p.named(ctx, img)
		if err != nil {
			return nil, err
		}
		for _, d := range append(found, named...) {
			if !slices.ContainsFunc(all, func(other ocispec.Descriptor) bool { return other.Digest == d.Digest }) {
				all = append(all, d)
			}
		}
	}
	return all, nil
}

// named returns the artifact that the image's layers name, if they name one.
func (p Place) named(ctx context.Context, img ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	name, err := image.AnnotationOf(ctx, p.Target(), img, Annotation)
	if err != nil || name == "" {
		return nil, err
	}
	ref, err := oci.ParseRef(name)
	if err != nil {
		return nil, fmt.Errorf("artifact that %s names: %w", img.Digest, err)
	}
	desc, err := p.Resolve(ctx, ref) // of the name, only the digest counts
	if err != nil {
		return nil, fmt.Errorf("artifact that %s names: %w", img.Digest, err)
	}
	return []ocispec.Descriptor{desc}, nil
}
