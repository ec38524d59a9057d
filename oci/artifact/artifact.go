// Package artifact knows the OCI manifest that carries what a lazy mount needs: a metadata image, blob maps and blob objects.
//
// Everything hangs on the manifest's digest: it names the config, which names the metadata image by the SHA-256 of its plain bytes and each
// blob by its ID, the SHA-256 of its map; maps hold the SHA-256 of every frame. Nothing that this package returns is unverified; the blob
// objects themselves are for the engine to read and verify. docs/format.md has the JSON.
package artifact

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/blob"
)

// Media types.
const (
	Type            = "application/vnd.pagein.artifact.v1" // artifactType of the manifest
	MediaTypeConfig = "application/vnd.pagein.config.v1+json"
	MediaTypeMeta   = "application/vnd.pagein.meta.v1.erofs+zstd" // metadata image, zstd
	MediaTypeMap    = "application/vnd.pagein.map.v1+zstd"        // blob map, zstd
	MediaTypeObject = "application/vnd.pagein.blob.v1"            // source object: frames back to back
	MediaTypeIndex  = "application/vnd.pagein.index.v1+zstd"      // blob index, zstd; no mount needs it
)

// Annotation of an image's layers names the artifact that stands for the image, as HOST/REPOSITORY@DIGEST. containerd hands annotations with this prefix to its snapshotter.
const Annotation = "containerd.io/snapshot/pagein-artifact"

const (
	// maxManifest bounds manifests and configs, in bytes, as registries do.
	maxManifest = 4 << 20
	// maxEmbedded bounds the configs that manifests contain, in bytes: with one, a manifest still arrives in the first ten segments that a server sends, and a round trip is saved.
	maxEmbedded = 8 << 10
	// maxMeta bounds the plain metadata image, in bytes.
	maxMeta = 8 << 30
	// maxBlobs is how many device slots EROFS has.
	maxBlobs = 1<<16 - 1
	// maxChains bounds the layers of the image that an artifact stands for.
	maxChains = 1000
	// configVersion is the only version of the config.
	configVersion = 1
)

// MaxDepth bounds how many artifacts ago a blob that an artifact lists can have been made. Without a bound, the data of an image that is converted anew
// every day would be scattered over ever more blobs.
const MaxDepth = 16

// ErrNotArtifact says that a reference names something else.
var ErrNotArtifact = errors.New("not a pagein artifact")

// Config is the artifact's config blob. Digests of layers are those of the manifest's layers.
type Config struct {
	Version int          `json:"version"`
	Meta    ConfigMeta   `json:"meta"`
	Blobs   []ConfigBlob `json:"blobs"` // in the order of the metadata image's device slots

	Chains []digest.Digest `json:"chains,omitempty"` // chain IDs of the layers of the image that it stands for, bottom first; none if it was made from no image

	Base digest.Digest `json:"base,omitempty"` // the artifact that this one is laid out anew from

	Objects []ocispec.Descriptor `json:"objects,omitempty"` // source objects that other places have, which their URLs name; they need not be layers
}

// ConfigMeta describes the metadata image.
type ConfigMeta struct {
	Digest digest.Digest `json:"digest"` // of the plain image
	Size   int64         `json:"size"`   // bytes of the plain image
	Layer  digest.Digest `json:"layer"`  // the layer with the compressed image
}

// ConfigBlob describes a blob.
type ConfigBlob struct {
	ID      string          `json:"id"`      // SHA-256 of the plain map, 64 hex digits: the device tag
	Size    int64           `json:"size"`    // bytes of the blob
	MapSize int64           `json:"mapSize"` // bytes of the plain map
	Map     digest.Digest   `json:"map"`     // the layer with the compressed map
	Sources []digest.Digest `json:"sources"` // the source objects, layers or among Objects, in the map's order

	Index     digest.Digest `json:"index,omitempty"`     // the layer with the compressed index, if there is one
	IndexSize int64         `json:"indexSize,omitempty"` // bytes of the plain index
	Hot       int64         `json:"hot,omitempty"`       // bytes of the blob, from its beginning, that a profile says will be read
	Depth     int           `json:"depth,omitempty"`     // how many artifacts ago the blob was made, up to MaxDepth
}

// check refuses values that cannot be meant.
func (c *Config) check() error {
	if c.Version != configVersion {
		return fmt.Errorf("version is %d, only %d is known; a newer pagein may read it", c.Version, configVersion)
	}
	if err := c.Meta.check(); err != nil {
		return fmt.Errorf("meta: %w", err)
	}
	if len(c.Blobs) > maxBlobs {
		return fmt.Errorf("%d blobs, at most %d are possible", len(c.Blobs), maxBlobs)
	}
	seen := make(map[string]bool, len(c.Blobs))
	for i, b := range c.Blobs {
		if err := b.check(); err != nil {
			return fmt.Errorf("blob %d: %w", i, err)
		}
		if seen[b.ID] {
			return fmt.Errorf("blob %d: ID %s occurs twice", i, b.ID)
		}
		seen[b.ID] = true
	}
	if err := checkChains(c.Chains); err != nil {
		return fmt.Errorf("chain IDs: %w", err)
	}
	if c.Base != "" {
		if err := c.Base.Validate(); err != nil {
			return fmt.Errorf("base %q: %w", c.Base, err)
		}
	}
	return checkObjects(c.Objects)
}

// checkChains refuses lists that are not those of an image.
func checkChains(chains []digest.Digest) error {
	if len(chains) > maxChains {
		return fmt.Errorf("%d of them, an image has at most %d layers", len(chains), maxChains)
	}
	seen := make(map[digest.Digest]bool, len(chains))
	for i, c := range chains {
		if err := c.Validate(); err != nil {
			return fmt.Errorf("%d: %q: %w", i, c, err)
		}
		if seen[c] {
			return fmt.Errorf("%d: %s occurs twice", i, c)
		}
		seen[c] = true
	}
	return nil
}

func (m *ConfigMeta) check() error {
	if m.Digest.Validate() != nil || m.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q is no SHA-256", m.Digest)
	}
	if m.Size <= 0 || m.Size > maxMeta || m.Size%blob.BlockSize != 0 {
		return fmt.Errorf("size %d is not a positive multiple of %d up to %d", m.Size, blob.BlockSize, int64(maxMeta))
	}
	return nil
}

func (b *ConfigBlob) check() error {
	if raw, err := hex.DecodeString(b.ID); err != nil || len(raw) != 32 || hex.EncodeToString(raw) != b.ID {
		return fmt.Errorf("ID %q is not 64 lower-case hex digits", b.ID)
	}
	if b.Size <= 0 || b.Size > blob.MaxSize || b.Size%blob.BlockSize != 0 {
		return fmt.Errorf("size %d is not a positive multiple of %d up to %d", b.Size, blob.BlockSize, int64(blob.MaxSize))
	}
	if b.MapSize <= 0 || b.MapSize > blob.MaxMapSize {
		return fmt.Errorf("map size %d is not between 1 and %d", b.MapSize, blob.MaxMapSize)
	}
	if len(b.Sources) == 0 || len(b.Sources) > blob.MaxSources {
		return fmt.Errorf("%d source objects are not between 1 and %d", len(b.Sources), blob.MaxSources)
	}
	if (b.Index == "") != (b.IndexSize == 0) || b.IndexSize < 0 || b.IndexSize > blob.MaxIndexSize {
		return fmt.Errorf("index size %d of index %q is not between 1 and %d", b.IndexSize, b.Index, blob.MaxIndexSize)
	}
	if b.Hot < 0 || b.Hot > b.Size {
		return fmt.Errorf("%d bytes to be had first are not between 0 and its size, %d", b.Hot, b.Size)
	}
	if b.Depth < 0 || b.Depth > MaxDepth {
		return fmt.Errorf("it was borrowed through %d artifacts, at most %d are allowed; convert the image anew without --dict", b.Depth, MaxDepth)
	}
	return nil
}

// layers gives access to a manifest's layers by digest.
type layers map[digest.Digest]ocispec.Descriptor

func newLayers(descs []ocispec.Descriptor) (layers, error) {
	l := make(layers, len(descs))
	for i, d := range descs {
		if err := d.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("layer %d: digest %q: %w", i, d.Digest, err)
		}
		if d.Size <= 0 {
			return nil, fmt.Errorf("layer %d: size is %d", i, d.Size)
		}
		if _, ok := l[d.Digest]; ok {
			return nil, fmt.Errorf("layer %d: digest %s occurs twice", i, d.Digest)
		}
		l[d.Digest] = d
	}
	return l, nil
}

// find returns the layer with digest d, which must be of the given media type.
func (l layers) find(d digest.Digest, mediaType string) (ocispec.Descriptor, error) {
	desc, ok := l[d]
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("the manifest has no layer %q", d)
	}
	if desc.MediaType != mediaType {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s is of type %q, want %q", d, desc.MediaType, mediaType)
	}
	return desc, nil
}
