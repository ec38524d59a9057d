package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/oci/registry"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Contents is what an artifact is made of.
type Contents struct {
	Meta    io.ReaderAt // plain metadata image
	Size    int64       // its bytes
	Blobs   []BlobContents
	Subject *ocispec.Descriptor // the image it was made from, or nil
	Chains  []digest.Digest     // chain IDs of the layers of that image, bottom first
	Base    digest.Digest       // the artifact that this one is laid out anew from, "" for none
	After   *Predecessor        // the newest artifact of that image until now, or nil

	Attached Attachment // where source objects go, or nil
	Keep     bool       // source objects go to the target too

	// Ready, unless nil, is called with the manifest's descriptor when all that the manifest names is stored. If it fails, the manifest is not stored.
	Ready func(ctx context.Context, manifest ocispec.Descriptor) error

	// Progress, unless nil, is told now and then how many of how many bytes are with the target. Both grow.
	Progress func(done, total int64)
}

// BlobContents is a blob with one source object, or one of another artifact.
type BlobContents struct {
	Map    *blob.Map
	Object io.ReaderAt   // its first SourceSize(0) bytes
	Digest digest.Digest // of the object, as computed from its bytes: it is not checked again
	Index  *blob.Index   // may be nil
	Hot    int64         // how many bytes of the blob, from its beginning, are worth having before anybody asks

	Borrowed *Borrowed // instead of all of these
}

// Pushed says what [Push] did.
type Pushed struct {
	Descriptor ocispec.Descriptor // of the manifest
	Stored     int64              // bytes of manifest, config and layers, those of borrowed blobs left out
	Sent       int64              // of these, bytes that the target did not have
	Meta       int64              // bytes of the compressed metadata image
	Maps       int64              // bytes of the compressed maps of own blobs
	Indexes    int64              // bytes of the compressed indexes of own blobs
	Copied     int64              // bytes of borrowed blobs that had to be copied to the target
	Attached   int64              // bytes that the attached storage did not have
	Mounted    int64              // bytes of borrowed blobs that the registry took from another of its repositories
}

// Push stores everything and then the manifest, which is not tagged. Equal contents give equal manifests. What the target has already is not
// sent again. If there is a predecessor, the manifest is that one or of the generation after it.
func Push(ctx context.Context, dst content.Storage, c Contents) (Pushed, error) {
	p := &pusher{dst: dst, attached: c.Attached, keep: c.Keep || c.Attached == nil, layers: make(map[digest.Digest]bool), progress: progress{report: c.Progress}}
	if err := p.push(ctx, c); err != nil {
		return Pushed{}, fmt.Errorf("push artifact: %w", registry.Explain(err))
	}
	return p.done, nil
}

type pusher struct {
	dst      content.Storage
	attached Attachment             // or nil
	keep     bool                   // source objects are layers
	layers   map[digest.Digest]bool // those in the manifest
	objects  []ocispec.Descriptor   // those for the config
	manifest ocispec.Manifest
	done     Pushed
	progress progress
}

func (p *pusher) push(ctx context.Context, c Contents) error {
	config := Config{Version: configVersion, Blobs: []ConfigBlob{}, Chains: c.Chains, Base: c.Base}
	var err error
	for _, b := range c.Blobs {
		p.progress.total += b.size()
	}
	if config.Meta, err = p.pushMeta(ctx, c); err != nil {
		return fmt.Errorf("metadata image: %w", err)
	}
	for i, b := range c.Blobs {
		cb, err := p.pushBlob(ctx, b)
		if err != nil {
			return fmt.Errorf("blob %d: %w", i, err)
		}
		config.Blobs = append(config.Blobs, cb)
	}
	config.Objects = p.objects
	if err := config.check(); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if p.manifest.Config, err = p.pushConfig(ctx, config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	p.manifest.Versioned = specs.Versioned{SchemaVersion: 2}
	p.manifest.MediaType = ocispec.MediaTypeImageManifest
	p.manifest.ArtifactType = Type
	if c.Subject != nil { // only what names it: platforms and annotations of an index entry do not belong here
		p.manifest.Subject = &ocispec.Descriptor{MediaType: c.Subject.MediaType, Digest: c.Subject.Digest, Size: c.Subject.Size}
	}
	if err := p.pushManifest(ctx, c); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

// pushManifest stores the manifest, which is complete but for its generation.
func (p *pusher) pushManifest(ctx context.Context, c Contents) error {
	if c.After != nil {
		p.manifest.Annotations = annotate(c.After.Generation)
	}
	desc, b, err := inJSON(ocispec.MediaTypeImageManifest, p.manifest)
	if err == nil && c.After != nil && c.After.Digest != desc.Digest { // else it is what there is already
		p.manifest.Annotations = annotate(min(c.After.Generation+1, maxGeneration))
		desc, b, err = inJSON(ocispec.MediaTypeImageManifest, p.manifest)
	}
	if err != nil {
		return err
	}
	if c.Ready != nil {
		if err := c.Ready(ctx, desc); err != nil {
			return err
		}
	}
	p.progress.total += desc.Size
	if err := p.store(ctx, desc, bytes.NewReader(b)); err != nil {
		return err
	}
	desc.ArtifactType = Type
	p.done.Descriptor = desc
	return nil
}

func (p *pusher) pushMeta(ctx context.Context, c Contents) (ConfigMeta, error) {
	plain := digest.SHA256.Digester()
	packed, err := pack(io.TeeReader(io.NewSectionReader(c.Meta, 0, c.Size), plain.Hash()), c.Size)
	if err != nil {
		return ConfigMeta{}, err
	}
	layer, err := p.pushLayer(ctx, MediaTypeMeta, packed)
	p.done.Meta = layer.Size
	return ConfigMeta{Digest: plain.Digest(), Size: c.Size, Layer: layer.Digest}, err
}

func (p *pusher) pushBlob(ctx context.Context, b BlobContents) (ConfigBlob, error) {
	if b.Borrowed != nil {
		return p.borrow(ctx, b.Borrowed)
	}
	object := ocispec.Descriptor{MediaType: MediaTypeObject, Digest: b.Digest, Size: b.Map.SourceSize(0)}
	if err := p.addObject(ctx, object, b.Object); err != nil {
		return ConfigBlob{}, fmt.Errorf("object: %w", err)
	}
	layer, err := p.pushPacked(ctx, MediaTypeMap, b.Map.Bytes())
	if err != nil {
		return ConfigBlob{}, fmt.Errorf("map: %w", err)
	}
	p.done.Maps += layer.Size
	cb := ConfigBlob{
		ID: b.Map.ID(), Size: b.Map.Size(), MapSize: int64(len(b.Map.Bytes())), Map: layer.Digest, Sources: []digest.Digest{object.Digest}, Hot: b.Hot,
	}
	if b.Index != nil {
		if layer, err = p.pushPacked(ctx, MediaTypeIndex, b.Index.Bytes()); err != nil {
			return ConfigBlob{}, fmt.Errorf("index: %w", err)
		}
		p.done.Indexes += layer.Size
		cb.Index, cb.IndexSize = layer.Digest, int64(len(b.Index.Bytes()))
	}
	return cb, nil
}

// pushPacked compresses and stores a layer.
func (p *pusher) pushPacked(ctx context.Context, mediaType string, plain []byte) (ocispec.Descriptor, error) {
	packed, err := pack(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return p.pushLayer(ctx, mediaType, packed)
}

func (p *pusher) pushLayer(ctx context.Context, mediaType string, b []byte) (ocispec.Descriptor, error) {
	desc := content.NewDescriptorFromBytes(mediaType, b)
	p.progress.total += desc.Size
	return desc, p.add(ctx, desc, bytes.NewReader(b))
}

// add stores a layer and lists it in the manifest, once.
func (p *pusher) add(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if !p.list(desc) {
		return nil
	}
	return p.store(ctx, desc, r)
}

// list puts a layer into the manifest and reports whether it was not there yet.
func (p *pusher) list(desc ocispec.Descriptor) bool {
	if p.layers[desc.Digest] {
		return false
	}
	p.layers[desc.Digest] = true
	p.manifest.Layers = append(p.manifest.Layers, desc)
	return true
}

// pushConfig stores the config, and has the manifest contain it if it is small.
func (p *pusher) pushConfig(ctx context.Context, config Config) (ocispec.Descriptor, error) {
	desc, b, err := inJSON(MediaTypeConfig, config)
	if err != nil {
		return desc, err
	}
	p.progress.total += desc.Size
	if err := p.store(ctx, desc, bytes.NewReader(b)); err != nil {
		return desc, err
	}
	if len(b) <= maxEmbedded {
		desc.Data = b
	}
	return desc, nil
}

func inJSON(mediaType string, v any) (ocispec.Descriptor, []byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if len(b) > maxManifest {
		return ocispec.Descriptor{}, nil, fmt.Errorf("it has %d bytes, registries take %d", len(b), maxManifest)
	}
	return content.NewDescriptorFromBytes(mediaType, b), b, nil
}

// store sends what the target does not have yet. The descriptor was made from the bytes.
func (p *pusher) store(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	p.done.Stored += desc.Size
	sent, err := p.send(ctx, desc, func(ctx context.Context) error {
		if dst, ok := p.dst.(hashed); ok {
			return dst.PushHashed(ctx, desc, p.progress.count(r))
		}
		return p.dst.Push(ctx, desc, p.progress.count(r))
	})
	if sent {
		p.done.Sent += desc.Size
	}
	return err
}

// hashed is a target that can store bytes without computing their digest again.
type hashed interface {
	PushHashed(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error
}

// send lets push store what the target does not have yet, and reports whether it did.
func (p *pusher) send(ctx context.Context, desc ocispec.Descriptor, push func(context.Context) error) (sent bool, err error) {
	end := p.progress.done + desc.Size
	ok, err := p.dst.Exists(ctx, desc)
	if err == nil && !ok {
		err = push(ctx)
		sent = err == nil
		if errors.Is(err, errdef.ErrAlreadyExists) { // somebody else was faster
			err = nil
		}
	}
	p.progress.reach(end)
	return sent, err
}

// pack compresses the size bytes of a metadata image, a map or an index. They count in the time to ready, so it is worth some effort.
func pack(r io.Reader, size int64) ([]byte, error) {
	window := zstd.MinWindowSize // the encoder has memory for twice the window
	for int64(window) < size && window < maxWindow {
		window <<= 1
	}
	var buf bytes.Buffer
	z, err := zstd.NewWriter(&buf,
		zstd.WithEncoderConcurrency(1), // the same bytes on every machine
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(false)) // the config has a SHA-256
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(z, r); err != nil {
		return nil, errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
