package mkfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/atomicfile"
)

// imageTailLimit is the length up to which whole files and tails lie in the metadata of a plain image. Nothing is fetched there, so the
// limit only decides how tightly inodes with their data fill blocks. Measured on the Go toolchain, the image has 272.4 MB with limit 0,
// 235.1 with 2048, 232.5 with 3072 and 232.2 with 4031, of which 1.6, 10.4, 15.6 and 21.2 MB are metadata.
const imageTailLimit = 3072

// Source adds something to an empty tree.
type Source func(ctx context.Context, t *Tree, sink Sink) error

// ImageOptions of [WriteImage]. The zero value is useful.
type ImageOptions struct {
	Overrides
	UUID             *[16]byte              // nil: derived from the tree, see [Summary]
	BuildTime        *int64                 // in seconds since 1970; nil: the newest time in the tree
	Label            string                 // volume name, up to 15 bytes
	BlobDev          string                 // path of a file that takes the file data, tagged with its SHA-256; "" keeps the data in the image
	NoInline         bool                   // no file data lies in the metadata
	ChunkSize        int64                  // see [Options]
	DigestXattr      string                 // see erofs.WriteOptions; "" stores no digests
	OverlayWhiteouts bool                   // see [Options]
	Skip             func(path string) bool // see [Options]
	TempDir          string                 // for temporary files; "" means the system's directory
	Note             func(message string)   // see [Options]
	Progress         func(Stats)            // see [Options]
}

// ImageStats says what [WriteImage] made.
type ImageStats struct {
	Data     Stats
	Image    erofs.Stats
	UUID     [16]byte
	BlobDev  string // tag of the separate device: SHA-256 in hex, or "" if there is none
	BlobSize int64  // its length in bytes
}

// WriteImage writes a plain EROFS image to a file. The same source and options give the same bytes: a UUID that is not given is derived
// from the tree, and the build time is the newest time in it. Nothing appears at path, or at BlobDev, which must be another file, before all is
// written; what was there is replaced. Data is left in the page cache, as by cp.
func WriteImage(ctx context.Context, path string, source Source, o ImageOptions) (ImageStats, error) {
	image, err := create(path)
	if err != nil {
		return ImageStats{}, err
	}
	defer image.Discard()
	stats, err := withBlobDev(ctx, image.File.File, image, source, o)
	if err != nil {
		return ImageStats{}, fmt.Errorf("write image %s: %w", path, err)
	}
	return stats, image.Commit()
}

// StreamImage is [WriteImage] to a stream, which gets the image once it is complete.
func StreamImage(ctx context.Context, w io.Writer, source Source, o ImageOptions) (s ImageStats, err error) {
	image, s, err := TempImage(ctx, source, o)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return s, fmt.Errorf("write image: %w", err)
	}
	if _, err := io.Copy(w, contextReader{ctx, image}); err != nil {
		return s, fmt.Errorf("write image: %w", err)
	}
	return s, nil
}

// TempImage is [WriteImage] to a file without a name in o.TempDir, which goes away when it is closed.
func TempImage(ctx context.Context, source Source, o ImageOptions) (*os.File, ImageStats, error) {
	image, err := atomicfile.Temp(o.TempDir)
	if err != nil {
		return nil, ImageStats{}, err
	}
	s, err := withBlobDev(ctx, image, nil, source, o)
	if err != nil {
		return nil, s, errors.Join(fmt.Errorf("write image: %w", err), image.Close())
	}
	return image, s, nil
}

// withBlobDev writes an image, and the separate device if there is to be one. named is the image if it is to have a name.
func withBlobDev(ctx context.Context, image *os.File, named *output, source Source, o ImageOptions) (ImageStats, error) {
	var exclude []os.FileInfo
	if named != nil {
		exclude = named.infos()
	}
	if o.BlobDev == "" {
		return writeImage(ctx, image, image, source, exclude, o)
	}
	device, err := create(o.BlobDev)
	if err != nil {
		return ImageStats{}, err
	}
	defer device.Discard()
	if named != nil && device.is(named) {
		return ImageStats{}, fmt.Errorf("the data device %s is the same file", o.BlobDev)
	}
	stats, err := writeImage(ctx, image, device.File.File, source, append(exclude, device.infos()...), o)
	if err != nil {
		return ImageStats{}, err
	}
	// The device goes first: an image without it would be useless.
	return stats, device.Commit()
}

func writeImage(ctx context.Context, image, data *os.File, source Source, exclude []os.FileInfo, o ImageOptions) (s ImageStats, err error) {
	limit := imageTailLimit
	tree := Options{
		InlineLimit: limit, TailLimit: limit, ChunkSize: o.ChunkSize, Digests: o.DigestXattr != "", OverlayWhiteouts: o.OverlayWhiteouts,
		TempDir: o.TempDir, Exclude: exclude, Skip: o.Skip, Note: o.Note, Progress: o.Progress,
	}
	sink := NewFileSink(data, 0, 1)
	if data != image {
		tree.InlineLimit, tree.TailLimit = DefaultInlineLimit, 0
		sink = NewFileSink(data, 1, 0)
	}
	if o.NoInline {
		tree.InlineLimit, tree.TailLimit = 0, 0
	}
	t, err := New(tree)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := source(ctx, t, sink); err != nil {
		return s, err
	}
	blocks, err := sink.Close()
	if err != nil {
		return s, err
	}
	if err := t.Finish(o.Overrides); err != nil {
		return s, err
	}
	summary := t.Summarize()
	s.Data, s.UUID = t.Stats(), summary.UUID
	if o.UUID != nil {
		s.UUID = *o.UUID
	}
	write := erofs.WriteOptions{UUID: s.UUID, VolumeName: o.Label, BuildTime: summary.Mtime, InlineData: t.InlineData(), DigestXattr: o.DigestXattr}
	if o.BuildTime != nil {
		write.BuildTime = *o.BuildTime
	}
	switch {
	case data == image:
		write.MetaBlock = blocks
	case blocks > 0:
		s.BlobSize = int64(blocks) * erofs.BlockSize
		if s.BlobDev, err = fileDigest(ctx, data); err != nil {
			return s, err
		}
		write.Devices = []erofs.Device{{Tag: s.BlobDev, Blocks: blocks}}
	}
	s.Image, err = erofs.Write(image, t.Root(), write)
	return s, err
}

// fileDigest returns the SHA-256 of a whole file.
func fileDigest(ctx context.Context, f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, contextReader{ctx, io.NewSectionReader(f, 0, info.Size())}, make([]byte, 1<<20)); err != nil {
		return "", fmt.Errorf("compute digest: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
