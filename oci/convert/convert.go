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
	return single(ctx, dst, o, func(b *build, sink mkfs.Sink) error {
		return b.tree.AddDir(ctx, dir, sink)
	})
}

// Tar converts a tar stream, plain or compressed with gzip or zstd, which is read to its end.
func Tar(ctx context.Context, r io.Reader, dst content.Storage, o Options) (Result, error) {
	return single(ctx, dst, o, func(b *build, sink mkfs.Sink) error {
		return b.tree.AddTar(ctx, b.counted(r), sink)
	})
}

// single converts a source that fills one blob.
func single(ctx context.Context, dst content.Storage, o Options, add func(*build, mkfs.Sink) error) (Result, error) {
	b, err := newBuild(o)
	if err != nil {
		return Result{}, err
	}
	defer b.close()
	b.progress.Layer, b.progress.Layers = 1, 1
	if err := b.layer(ctx, func(sink mkfs.Sink) error { return add(b, sink) }); err != nil {
		return Result{}, err
	}
	return b.push(ctx, dst, nil)
}

// Image converts the image that desc, a manifest or an index, names in src. The artifact's subject is the image's manifest. A layer whose
// bytes do not have the digests that the image promises is an error, and nothing is pushed.
func Image(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, dst content.Storage, o Options) (Result, error) {
	img, err := image.Load(ctx, src, desc, o.Platform)
	if err != nil {
		return Result{}, err
	}
	b, err := newBuild(o)
	if err != nil {
		return Result{}, err
	}
	defer b.close()
	b.progress.Layers = len(img.Layers)
	for _, l := range img.Layers {
		b.progress.Total += l.Size
	}
	for i, l := range img.Layers {
		b.progress.Layer = i + 1
		err := b.layer(ctx, func(sink mkfs.Sink) error { return applyLayer(ctx, b, src, l, img.DiffIDs[i], sink) })
		if err != nil {
			return Result{}, fmt.Errorf("layer %d of %d (%s): %w", i+1, len(img.Layers), l.Digest, err)
		}
		b.result.Layers[i].Digest = l.Digest
	}
	return b.push(ctx, dst, &img.Manifest)
}
