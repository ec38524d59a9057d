package image

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// maxImages bounds how many images an index may list.
const maxImages = 100

// All lists the manifests of an index that are for Linux, with their platforms, each once. A manifest that is no index is returned as it is.
func All(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	if err := walk(ctx, src, desc, 0, func(d ocispec.Descriptor) error {
		for _, other := range all {
			if other.Digest == d.Digest {
				return nil
			}
		}
		if len(all) == maxImages {
			return fmt.Errorf("index %s lists more than %d images", desc.Digest, maxImages)
		}
		all = append(all, d)
		return nil
	}); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("index %s has no image for Linux", desc.Digest)
	}
	return all, nil
}

func walk(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, depth int, found func(ocispec.Descriptor) error) error {
	switch desc.MediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest:
		return found(desc)
	case ocispec.MediaTypeImageIndex, dockerIndex:
	default:
		return fmt.Errorf("%s is no image: it is of type %q", desc.Digest, desc.MediaType)
	}
	if depth == maxDepth {
		return fmt.Errorf("more than %d indexes lie in each other", maxDepth)
	}
	var index ocispec.Index
	if err := fetchJSON(ctx, src, desc, maxManifest, &index); err != nil {
		return fmt.Errorf("read image index: %w", err)
	}
	for _, d := range index.Manifests {
		if d.Platform != nil && d.Platform.OS != "linux" { // another system's, or an attestation, whose system is "unknown"
			continue
		}
		if err := walk(ctx, src, d, depth+1, found); err != nil {
			return err
		}
	}
	return nil
}
