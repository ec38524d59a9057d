// Package convert makes artifacts: it turns an image, a directory or a tar into a metadata image and blobs and pushes them.
//
// It joins mkfs, which knows trees, with artifact, which knows manifests, and itself knows only how to read an image's layers and to
// believe none of them before their digests are checked. Nothing is pushed before everything is verified. All intermediate data is in files
// without names, which go away however the process ends.
package convert

import (
	"context"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci/image"
	"oras.land/oras-go/v2/content"
)

// Dir converts a directory tree.
func Dir(ctx context.Context, dir string, dst content.Storage, o Options) (Result, error) {
	b := build{o: o, sources: []source{{files: true, read: func(ctx context.Context, l *mkfs.Layer, _ counter) error { return l.ReadDir(ctx, dir) }}}}
	return b.run(ctx, dst)
}

// Tar converts a tar stream, plain or compressed with gzip or zstd, which is read to its end.
func Tar(ctx context.Context, r io.Reader, dst content.Storage, o Options) (Result, error) {
	b := build{o: o, total: o.TarSize, sources: []source{{read: func(ctx context.Context, l *mkfs.Layer, count counter) error { return l.ReadTar(ctx, count.reader(r)) }}}}
	return b.run(ctx, dst)
}

// Image converts the image that desc, a manifest or an index, names in src. The artifact's subject is the image's manifest. A layer whose
// bytes do not have the digests that the image promises is an error, and nothing is pushed.
func Image(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, dst content.Storage, o Options) (Result, error) {
	img, err := image.Load(ctx, src, desc, o.Platform)
	if err != nil {
		return Result{}, err
	}
	b := build{o: o, subject: &img.Manifest, chains: img.ChainIDs()}
	for i, desc := range img.Layers {
		b.total += desc.Size
		b.sources = append(b.sources, source{digest: desc.Digest, read: func(ctx context.Context, l *mkfs.Layer, count counter) error {
			if err := readLayer(ctx, l.ReadLayer, src, desc, img.DiffIDs[i], count); err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(img.Layers), desc.Digest, err)
			}
			return nil
		}})
	}
	return b.run(ctx, dst)
}
