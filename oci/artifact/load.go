package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Artifact is a loaded and checked artifact. Its methods may be called concurrently.
type Artifact struct {
	Name       string              // for messages
	Descriptor ocispec.Descriptor  // of the manifest
	Subject    *ocispec.Descriptor // the image it was made from, or nil
	Generation int                 // how many artifacts of that image it came after
	MetaDigest digest.Digest       // SHA-256 of the plain metadata image
	MetaSize   int64               // bytes of the plain metadata image
	Meta       ocispec.Descriptor  // compressed metadata image
	Blobs      []Blob              // in device slot order
	Chains     []digest.Digest     // chain IDs of the layers of the image it stands for, bottom first; none if it was made from no image
	Base       digest.Digest       // the artifact that this one is laid out anew from; "" for one that was converted. It may be gone

	src    content.Fetcher
	config ocispec.Descriptor
}

// Blob is what an artifact knows of a blob.
type Blob struct {
	ID      string // SHA-256 of its map, 64 hex digits
	Size    int64  // bytes
	MapSize int64  // bytes of the plain map
	Map     ocispec.Descriptor
	Sources []ocispec.Descriptor // source objects in the order in which the map names them, with other places that have them

	Index     *ocispec.Descriptor // compressed index, or nil
	IndexSize int64               // bytes of the plain index
	Hot       int64               // bytes, from its beginning, that a profile says will be read
	Depth     int                 // how many artifacts ago it was made, 0 for one that was made with this artifact

	away map[digest.Digest]bool // sources that are no layers
}

// Layers are all layers of the blob.
func (b *Blob) Layers() []ocispec.Descriptor {
	var all []ocispec.Descriptor
	for i, src := range b.Sources {
		if !b.Away(i) {
			all = append(all, src)
		}
	}
	all = append(all, b.Map)
	if b.Index != nil {
		all = append(all, *b.Index)
	}
	return all
}

// Place is where an artifact and its objects are: one of the two is set.
type Place struct {
	Layout     *layout.Store
	Repository *registry.Repository
}

// Open finds the place that ref names, which must be a layout or a registry. For a registry it does not connect.
func Open(client *registry.Client, ref oci.Ref) (Place, error) {
	switch ref.Kind {
	case oci.Layout:
		l, err := layout.Open(ref.Path)
		return Place{Layout: l}, err
	case oci.Registry:
		r, err := client.Repository(ref)
		return Place{Repository: r}, err
	}
	return Place{}, fmt.Errorf("open %s: it names neither an image layout nor a registry", ref)
}

// Target is the place as oras sees it.
func (p Place) Target() oras.Target {
	if p.Layout != nil {
		return p.Layout
	}
	return p.Repository
}

// Resolve finds what ref names there. Without a tag it is the default tag or, where that is missing in a layout with one manifest, that one.
func (p Place) Resolve(ctx context.Context, ref oci.Ref) (ocispec.Descriptor, error) {
	desc, err := p.Target().Resolve(ctx, ref.Reference())
	if p.Layout != nil && ref.Tag == "" && ref.Digest == "" && errors.Is(err, errdef.ErrNotFound) {
		desc, err = p.Layout.Only()
	}
	if err != nil {
		return ocispec.Descriptor{}, registry.Unresolved(ref.String(), err)
	}
	return desc, nil
}

// IsArtifact reports whether the manifest desc calls itself an artifact. Nothing but the manifest is looked at: an artifact that lost a
// layer is one.
func (p Place) IsArtifact(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if desc.MediaType != ocispec.MediaTypeImageManifest || desc.ArtifactType == Type { // layouts list the type
		return desc.ArtifactType == Type, nil
	}
	m, err := p.manifest(ctx, desc)
	return err == nil && m.ArtifactType == Type, err
}

// manifest reads a manifest, whatever it is one of.
func (p Place) manifest(ctx context.Context, desc ocispec.Descriptor) (*ocispec.Manifest, error) {
	b, err := fetchAll(ctx, p.Target(), desc)
	if err != nil {
		return nil, fmt.Errorf("load manifest: %w", err)
	}
	m := new(ocispec.Manifest)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("load manifest %s: %w", desc.Digest, err)
	}
	return m, nil
}

// Load reads and checks the manifest and the config of the artifact that ref names. The error is [ErrNotArtifact] if it is something
// else, such as an ordinary image.
func (p Place) Load(ctx context.Context, ref oci.Ref) (*Artifact, error) {
	_, a, err := p.load(ctx, ref, nil)
	return a, err
}

// load is Load that asks about the artifact. It also says what ref names, if the error is [ErrNotArtifact], too.
func (p Place) load(ctx context.Context, ref oci.Ref, ok check) (ocispec.Descriptor, *Artifact, error) {
	if p.Repository == nil {
		desc, err := p.Resolve(ctx, ref)
		if err != nil {
			return desc, nil, err
		}
		a, err := load(ctx, p.Layout, desc, ref.String(), ok)
		return desc, a, err
	}
	// Resolving and fetching in one request saves a round trip of every mount.
	desc, body, err := p.Repository.FetchReference(ctx, ref.Reference())
	if err != nil {
		return desc, nil, registry.Unresolved(ref.String(), err)
	}
	if err := checkType(desc, ref.String()); err != nil {
		return desc, nil, errors.Join(err, body.Close())
	}
	b, err := readAll(body, desc)
	if err != nil {
		return desc, nil, fmt.Errorf("load manifest of %s: %w", ref, err)
	}
	a, err := parse(ctx, p.Repository, desc, b, ref.String(), ok)
	return desc, a, err
}

// Load reads and checks the manifest desc and its config from src. Name stands for the artifact in messages.
func Load(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, name string) (*Artifact, error) {
	return load(ctx, src, desc, name, nil)
}

func load(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, name string, ok check) (*Artifact, error) {
	if err := checkType(desc, name); err != nil {
		return nil, err
	}
	b, err := fetchAll(ctx, src, desc)
	if err != nil {
		return nil, fmt.Errorf("load manifest of %s: %w", name, err)
	}
	return parse(ctx, src, desc, b, name, ok)
}

// checkType refuses what cannot be an artifact before it is read.
func checkType(desc ocispec.Descriptor, name string) error {
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return fmt.Errorf("%s is %w (mediaType %s): run pagein convert", name, ErrNotArtifact, desc.MediaType)
	}
	return nil
}

// parse checks the manifest in b, whose digest is verified, and loads its config if the artifact is accepted.
func parse(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, b []byte, name string, ok check) (*Artifact, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("load manifest of %s: %w", name, err)
	}
	if m.MediaType != "" && m.MediaType != desc.MediaType {
		return nil, fmt.Errorf("load manifest of %s: it calls itself %q, its descriptor says %q", name, m.MediaType, desc.MediaType)
	}
	if m.ArtifactType != Type {
		if m.ArtifactType != "" {
			return nil, fmt.Errorf("%s is %w (artifactType %s): run pagein convert", name, ErrNotArtifact, m.ArtifactType)
		}
		return nil, fmt.Errorf("%s is %w (mediaType %s, config %s): run pagein convert", name, ErrNotArtifact, desc.MediaType, m.Config.MediaType)
	}
	if ok != nil {
		if err := ok(ctx, desc, m.Subject); err != nil {
			return nil, fmt.Errorf("%s is not used: %w", name, err)
		}
	}
	a := &Artifact{Name: name, Descriptor: desc, Subject: m.Subject, Generation: generation(m.Annotations), src: src}
	if err := a.loadConfig(ctx, &m); err != nil {
		return nil, fmt.Errorf("load config of %s: %w", name, err)
	}
	return a, nil
}

func (a *Artifact) loadConfig(ctx context.Context, m *ocispec.Manifest) error {
	if m.Config.MediaType != MediaTypeConfig {
		return fmt.Errorf("it is of type %q, want %q", m.Config.MediaType, MediaTypeConfig)
	}
	a.config = m.Config
	b, err := a.configBytes(ctx, m.Config)
	if err != nil {
		return err
	}
	var c Config
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	return a.resolve(&c, m.Layers)
}

// configBytes returns the config, which the manifest contains if it is small.
func (a *Artifact) configBytes(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if len(desc.Data) == 0 {
		return fetchAll(ctx, a.src, desc)
	}
	if int64(len(desc.Data)) != desc.Size || desc.Digest.Validate() != nil || desc.Digest.Algorithm().FromBytes(desc.Data) != desc.Digest {
		return nil, fmt.Errorf("the manifest contains it, but not with digest %s and %d bytes", desc.Digest, desc.Size)
	}
	return desc.Data, nil
}

// VerifyConfig reads the config where it is stored, and compares it with its digest: whoever loads an artifact takes it from the manifest, if
// that contains it, but other programs may not.
func (a *Artifact) VerifyConfig(ctx context.Context) error {
	desc := a.config
	desc.Data = nil
	if _, err := fetchAll(ctx, a.src, desc); err != nil {
		return fmt.Errorf("load config of %s: %w", a.Name, err)
	}
	return nil
}

// resolve replaces the config's digests by the manifest's layers.
func (a *Artifact) resolve(c *Config, descs []ocispec.Descriptor) error {
	l, err := newLayers(descs)
	if err != nil {
		return err
	}
	a.MetaDigest, a.MetaSize, a.Chains, a.Base = c.Meta.Digest, c.Meta.Size, c.Chains, c.Base
	if a.Meta, err = l.find(c.Meta.Layer, MediaTypeMeta); err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	elsewhere := newObjects(c.Objects)
	a.Blobs = make([]Blob, len(c.Blobs))
	for i, cb := range c.Blobs {
		b := Blob{ID: cb.ID, Size: cb.Size, MapSize: cb.MapSize, IndexSize: cb.IndexSize, Hot: cb.Hot, Depth: cb.Depth}
		if b.Map, err = l.find(cb.Map, MediaTypeMap); err != nil {
			return fmt.Errorf("blob %d: map: %w", i, err)
		}
		for j, d := range cb.Sources {
			src, away, err := elsewhere.source(l, d)
			if err != nil {
				return fmt.Errorf("blob %d: source %d: %w", i, j, err)
			}
			if away {
				if b.away == nil {
					b.away = make(map[digest.Digest]bool)
				}
				b.away[d] = true
			}
			b.Sources = append(b.Sources, src)
		}
		if cb.Index != "" {
			index, err := l.find(cb.Index, MediaTypeIndex)
			if err != nil {
				return fmt.Errorf("blob %d: index: %w", i, err)
			}
			b.Index = &index
		}
		a.Blobs[i] = b
	}
	return nil
}

// fetchAll reads and verifies a small blob.
func fetchAll(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxManifest { // before anything is opened
		return nil, tooLong(desc)
	}
	r, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, registry.Explain(err)
	}
	return readAll(r, desc)
}

// readAll reads and verifies a small blob, and closes r.
func readAll(r io.ReadCloser, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size < 0 || desc.Size > maxManifest {
		return nil, errors.Join(tooLong(desc), r.Close())
	}
	b, err := content.ReadAll(r, desc)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return b, nil
}

func tooLong(desc ocispec.Descriptor) error {
	return fmt.Errorf("%s has %d bytes, at most %d are allowed", desc.Digest, desc.Size, maxManifest)
}

// drop reads what is left of a verified stream, so that its digest can be checked.
func drop(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
