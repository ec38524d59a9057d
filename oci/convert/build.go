package convert

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci/artifact"
)

// source is what makes one layer of a tree.
type source struct {
	digest digest.Digest // of an image's layer
	files  bool          // it is no stream, and progress counts the data of its files
	read   func(ctx context.Context, l *mkfs.Layer, count counter) error
}

// build is a conversion under way.
type build struct {
	o       Options
	sources []source
	total   int64 // bytes of all sources, 0 if unknown
	subject *ocispec.Descriptor
	chains  []digest.Digest // of the subject's layers

	read   []atomic.Int64 // bytes of each source
	layers []atomic.Pointer[mkfs.Layer]
	ended  atomic.Int32 // sources that are read
}

// counter counts the bytes that are read from a source.
type counter struct{ n *atomic.Int64 }

func (c counter) reader(r io.Reader) io.Reader { return countedReader{r, c.n} }

type countedReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// run converts the sources and pushes what comes of it.
func (b *build) run(ctx context.Context, dst content.Storage) (Result, error) {
	b.read, b.layers = make([]atomic.Int64, len(b.sources)), make([]atomic.Pointer[mkfs.Layer], len(b.sources))
	packed, err := b.pack(ctx)
	if err != nil {
		return Result{}, err
	}
	defer packed.Close() // files without names
	if b.o.Dict != nil {
		if err := b.o.Dict.Verify(ctx, b.verifying()); err != nil {
			return Result{}, err
		}
	}
	result, err := b.push(ctx, dst, packed)
	if err != nil {
		return Result{}, err
	}
	for i, f := range packed.Layers {
		result.Layers = append(result.Layers, describe(b.sources[i].digest, f, b.read[i].Load()))
	}
	result.complete()
	return result, nil
}

// pack reads all sources.
func (b *build) pack(ctx context.Context) (*mkfs.Packed, error) {
	stop := b.watch()
	defer stop()
	var reads []mkfs.Read
	for i, s := range b.sources {
		reads = append(reads, func(ctx context.Context, l *mkfs.Layer) error {
			defer b.ended.Add(1)
			b.layers[i].Store(l)
			return s.read(ctx, l, counter{&b.read[i]})
		})
	}
	o := mkfs.PackOptions{Frames: b.o.Blob, Order: b.o.Order, TempDir: b.o.TempDir, Note: b.o.Note}
	if b.o.Dict != nil {
		o.Known = b.o.Dict
	}
	return mkfs.Pack(ctx, o, reads...)
}

// progressEvery is how often somebody who watches is told.
const progressEvery = 100 * time.Millisecond

// watch reports how far reading is until it is stopped.
func (b *build) watch() (stop func()) {
	if b.o.Progress == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.Tick(progressEvery); ; {
			select {
			case <-quit:
				return
			case <-tick:
				b.o.Progress(b.progress())
			}
		}
	})
	return func() {
		close(quit)
		wg.Wait()
		b.o.Progress(b.progress())
	}
}

func (b *build) progress() Progress {
	p := Progress{Layers: len(b.sources), Layer: min(int(b.ended.Load())+1, len(b.sources)), Total: b.total}
	for i := range b.read {
		p.Read += b.read[i].Load()
		if l := b.layers[i].Load(); l != nil {
			p.Files += l.Files()
			if b.sources[i].files {
				p.Read += l.Bytes()
			}
		}
	}
	return p
}

// verifying returns what reports how far the verification of a dictionary is.
func (b *build) verifying() func(done, total int64) {
	if b.o.Progress == nil {
		return nil
	}
	var mu sync.Mutex
	p := b.progress()
	return func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		p.Verified, p.ToVerify = max(p.Verified, done), total
		b.o.Progress(p)
	}
}

// describe says what was made of a source. The input of a directory is the data of its files.
func describe(d digest.Digest, f mkfs.Figures, read int64) Layer {
	l := Layer{
		Digest: d,
		Figures: Figures{
			Files: f.Files, Input: read, Data: f.Data, Inlined: f.Inlined,
			SharedFiles: f.SharedFiles, SharedChunks: f.SharedPieces, Borrowed: f.Borrowed, Unique: f.Unique,
		},
	}
	if read == 0 {
		l.Input = f.Data
	}
	if f.Blob != nil {
		l.Blob, l.Compressed, l.Frames = f.Blob.Map.ID(), f.Blob.Size(), f.Blob.Map.Frames()
		for i := range l.Frames {
			if f.Blob.Map.Frame(i).Codec == blob.Raw {
				l.RawFrames++
			}
		}
	}
	return l
}

// push writes the metadata image and pushes everything.
func (b *build) push(ctx context.Context, dst content.Storage, packed *mkfs.Packed) (Result, error) {
	p := b.progress()
	p.Pushing = true
	contents := artifact.Contents{Subject: b.subject, Chains: b.chains, Attached: b.o.Attached, Keep: b.o.Keep, After: b.o.After, Ready: b.o.Ready}
	if b.o.Progress != nil {
		contents.Progress = func(done, total int64) {
			p.Sent, p.ToSend = done, total
			b.o.Progress(p)
		}
	}
	var devices []erofs.Device
	for i, d := range packed.Devices {
		device, c, err := b.device(d)
		if err != nil {
			return Result{}, fmt.Errorf("blob %d: %w", i+1, err)
		}
		devices, contents.Blobs = append(devices, device), append(contents.Blobs, c)
	}
	meta, err := atomicfile.Temp(b.o.TempDir)
	if err != nil {
		return Result{}, err
	}
	defer meta.Close() // a file without a name
	summary, err := packed.Identify(devices)
	if err != nil {
		return Result{}, err
	}
	written, err := erofs.Write(meta, packed.Root(), erofs.WriteOptions{
		UUID: summary.UUID, BuildTime: summary.Mtime, InlineData: packed.InlineData(), Devices: devices,
	})
	if err != nil {
		return Result{}, err
	}
	contents.Meta, contents.Size = meta, written.Size
	pushed, err := artifact.Push(ctx, dst, contents)
	if err != nil {
		return Result{}, err
	}
	r := Result{
		Descriptor: pushed.Descriptor, Blobs: len(packed.Devices), MetaPlain: written.Size, Meta: pushed.Meta, Maps: pushed.Maps, Indexes: pushed.Indexes,
		Stored: pushed.Stored, Sent: pushed.Sent, Copied: pushed.Copied, Mounted: pushed.Mounted, Attached: pushed.Attached,
	}
	for _, d := range packed.Devices {
		if d.Blob == nil {
			r.Borrowing++
		}
	}
	return r, nil
}

// device describes a blob for the metadata image and for the artifact.
func (b *build) device(d mkfs.Device) (erofs.Device, artifact.BlobContents, error) {
	if d.Blob == nil {
		borrowed, device := b.o.Dict.Blob(d.Known)
		return device, artifact.BlobContents{Borrowed: borrowed}, nil
	}
	m := d.Blob.Map
	c := artifact.BlobContents{Map: m, Object: d.Blob, Digest: digest.NewDigestFromBytes(digest.SHA256, d.Blob.Digest[:])}
	if small := slices.Collect(d.Blob.Small()); len(small) > 0 {
		var err error
		if c.Index, err = blob.NewIndex(small); err != nil {
			return erofs.Device{}, c, err
		}
	}
	return erofs.Device{Tag: m.ID(), Blocks: uint64(m.Size()) / blob.BlockSize}, c, nil
}
