package convert

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci/artifact"
	"oras.land/oras-go/v2/content"
)

// build is a conversion under way.
type build struct {
	o        Options
	tree     *mkfs.Tree
	blobs    []built
	progress Progress     // without Read
	read     atomic.Int64 // bytes of all sources; counted where they are read, which may be another goroutine
	result   Result
}

// built is a finished blob.
type built struct {
	m      *blob.Map
	object *object
	sink   *mkfs.BlobSink
}

func newBuild(o Options) (*build, error) {
	b := &build{o: o}
	tree, err := mkfs.New(mkfs.Options{
		InlineLimit: mkfs.DefaultInlineLimit,
		FillHoles:   true,
		TempDir:     o.TempDir,
		Note:        o.Note,
		Progress: func(s mkfs.Stats) {
			b.progress.Files = s.Files
			b.report()
		},
	})
	if err != nil {
		return nil, err
	}
	b.tree = tree
	return b, nil
}

// close frees the temporary files. There is nobody left to tell if that fails.
func (b *build) close() {
	_ = b.tree.Close()
	for _, x := range b.blobs {
		_ = x.object.Close()
	}
}

func (b *build) report() {
	if b.o.Progress != nil {
		p := b.progress
		p.Read = b.read.Load()
		b.o.Progress(p)
	}
}

// counted reports what is read from a source.
func (b *build) counted(r io.Reader) io.Reader { return &countedReader{r: r, b: b} }

type countedReader struct {
	r io.Reader
	b *build
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.b.read.Add(int64(n))
	return n, err
}

// layer lets add put one source into the tree and its data into a blob of its own. A source without new data makes no blob.
func (b *build) layer(ctx context.Context, add func(mkfs.Sink) error) error {
	obj, err := newObject(b.o.TempDir)
	if err != nil {
		return err
	}
	w := blob.NewWriter(ctx, obj, b.o.Blob)
	sink := mkfs.NewBlobSink(w, 0)
	read, before := b.read.Load(), b.tree.Stats()
	err = add(sink)
	m, closeErr := w.Close()
	if err == nil {
		err = closeErr
	}
	if err != nil {
		return errors.Join(err, obj.Close())
	}
	l := describe(b.tree.Stats(), before, w.Stats())
	if read = b.read.Load() - read; read > 0 {
		l.Input = read
	}
	if m.Frames() > 0 {
		l.Blob = m.ID()
	}
	b.result.Layers = append(b.result.Layers, l)
	if m.Frames() == 0 {
		return obj.Close()
	}
	sink.Device = uint16(len(b.blobs) + 1)
	b.blobs = append(b.blobs, built{m: m, object: obj, sink: sink})
	return nil
}

// describe says what a source added, from the tree's counts before and after it. The input of a directory is the data of its files.
func describe(after, before mkfs.Stats, w blob.Stats) Layer {
	data := after.Bytes - before.Bytes
	return Layer{
		Figures: Figures{
			Files: after.Files - before.Files, Input: data, Data: data, Inlined: after.Inlined - before.Inlined,
			SharedFiles: after.Shared - before.Shared, Unique: after.Appended - before.Appended, Compressed: w.Stored,
		},
		Frames: w.Frames, RawFrames: w.RawFrames,
	}
}

// push writes the metadata image and pushes everything.
func (b *build) push(ctx context.Context, dst content.Storage, subject *ocispec.Descriptor) (Result, error) {
	b.progress.Pushing = true
	b.report()
	if err := b.tree.Finish(mkfs.Overrides{}); err != nil {
		return Result{}, err
	}
	meta, err := newObject(b.o.TempDir)
	if err != nil {
		return Result{}, err
	}
	defer meta.Close() // a file without a name
	summary := b.tree.Summarize()
	write := erofs.WriteOptions{UUID: summary.UUID, BuildTime: summary.Mtime, InlineData: b.tree.InlineData()}
	contents := artifact.Contents{Meta: meta.f, Subject: subject}
	for _, x := range b.blobs {
		write.Devices = append(write.Devices, erofs.Device{Tag: x.m.ID(), Blocks: uint64(x.m.Size()) / blob.BlockSize})
		contents.Blobs = append(contents.Blobs, artifact.BlobContents{Map: x.m, Object: x.object.f, Digest: x.object.digest()})
	}
	written, err := erofs.Write(meta.f, b.tree.Root(), write)
	if err != nil {
		return Result{}, err
	}
	contents.Size = written.Size
	pushed, err := artifact.Push(ctx, dst, contents)
	if err != nil {
		return Result{}, err
	}
	r := b.result
	r.Descriptor, r.Blobs = pushed.Descriptor, len(b.blobs)
	r.MetaPlain, r.Meta, r.Maps, r.Stored, r.Sent = written.Size, pushed.Meta, pushed.Maps, pushed.Stored, pushed.Sent
	r.complete()
	return r, nil
}

// object is a temporary file without a name, and the digest of what was written to it in order.
type object struct {
	f    *os.File
	hash hash.Hash
}

func newObject(dir string) (*object, error) {
	f, err := os.CreateTemp(dir, "pagein-convert-*")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlink temporary file: %w", err), f.Close())
	}
	return &object{f: f, hash: sha256.New()}, nil
}

func (o *object) Write(p []byte) (int, error) {
	n, err := o.f.Write(p)
	o.hash.Write(p[:n])
	return n, err
}

func (o *object) digest() digest.Digest { return digest.NewDigest(digest.SHA256, o.hash) }
func (o *object) Close() error          { return o.f.Close() }
