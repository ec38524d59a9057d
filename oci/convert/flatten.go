package convert

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci/image"
	"oras.land/oras-go/v2/content"
)

// Flatten fills an empty tree from the layers of the image that desc, a manifest or an index, names in src. It is for those who want the image's file system
// and no artifact; what it believes, and the meaning of platform, are as in [Image].
func Flatten(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, platform *ocispec.Platform, t *mkfs.Tree, sink mkfs.Sink) error {
	img, err := image.Load(ctx, src, desc, platform)
	if err != nil {
		return err
	}
	apply := func(ctx context.Context, r io.Reader) error { return t.ApplyLayer(ctx, r, sink) }
	count := counter{new(atomic.Int64)} // nobody asks for it
	for i, layer := range img.Layers {
		if err := readLayer(ctx, apply, src, layer, img.DiffIDs[i], count); err != nil {
			return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(img.Layers), layer.Digest, err)
		}
	}
	return nil
}
