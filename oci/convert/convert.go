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
	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci/image"
	"oras.land/oras-go/v2/content"
)

// Options of a conversion. The zero value is useful. All but TempDir, Note and Progress shape the result.
type Options struct {
	Platform *ocispec.Platform  // which image of an index; nil means Linux on this machine's architecture
	Blob     blob.WriterOptions // how frames are cut
	TempDir  string             // for blobs until they are pushed, "" means the system's directory
	Note     func(string)       // told what was left out or looks odd
	Progress func(Progress)     // told now and then how far it is
}

// Progress says how far a conversion is.
type Progress struct {
	Layer, Layers int   // which of how many sources is being read, from 1
	Read, Total   int64 // bytes of all sources; Total is 0 if unknown
	Files         int64 // files with data that were met
	Pushing       bool  // everything is read
}

// Result says what a conversion made.
type Result struct {
	Descriptor ocispec.Descriptor `json:"descriptor"` // the artifact's manifest
	Layers     int                `json:"layers"`     // sources read
	Blobs      int                `json:"blobs"`
	Frames     int                `json:"frames"`
	RawFrames  int                `json:"rawFrames"` // frames that do not compress
	Files      int64              `json:"files"`     // regular files with data
	Input      int64              `json:"input"`     // bytes read from the source: of compressed layers, of a tar, of files
	Data       int64              `json:"data"`      // bytes in files, holes left out
	Shared     int64              `json:"shared"`    // of these, stored once already
	Inlined    int64              `json:"inlined"`   // of these, kept in the metadata
	MetaPlain  int64              `json:"metaPlain"` // bytes of the metadata image
	Meta       int64              `json:"meta"`      // the same, compressed
	Maps       int64              `json:"maps"`      // bytes of the compressed maps
	Stored     int64              `json:"stored"`    // bytes of the artifact in all
	Sent       int64              `json:"sent"`      // of these, bytes that the destination did not have
}

// Dir converts a directory tree.
func Dir(ctx context.Context, dir string, dst content.Storage, o Options) (Result, error) {
	return single(ctx, dst, o, func(b *build, sink mkfs.Sink) error {
		if err := b.tree.AddDir(ctx, dir, sink); err != nil {
			return err
		}
		b.result.Input = b.tree.Stats().Bytes
		return nil
	})
}

// Tar converts a tar stream, plain or compressed with gzip or zstd, which is read to its end.
func Tar(ctx context.Context, r io.Reader, dst content.Storage, o Options) (Result, error) {
	return single(ctx, dst, o, func(b *build, sink mkfs.Sink) error {
		err := b.tree.AddTar(ctx, b.counted(r), sink)
		b.result.Input = b.read.Load()
		return err
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
	}
	b.result.Input = b.progress.Total
	return b.push(ctx, dst, &img.Manifest)
}
