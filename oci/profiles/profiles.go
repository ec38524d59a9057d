// Package profiles keeps access profiles where images are, as OCI artifacts whose subject is the image that ran.
//
// It knows manifests and the text of profiles, and nothing of what is made of them. An image may have any number of profiles, of different runs and workloads. There is no newest
// one: all that are attached count, merged. Whoever may push there can attach one, so those that cannot be used are left out.
package profiles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/profile"
)

// Media types.
const (
	Type      = "application/vnd.pagein.profile.v1" // artifactType of the manifest
	MediaType = "application/vnd.pagein.profile.v1+zstd"

	MediaTypeConfig = "application/vnd.pagein.profile.config.v1+json" // of an empty object: some registries list manifests under this type
)

const (
	// maxManifest bounds manifests, in bytes, as registries do.
	maxManifest = 4 << 20
	// maxLayer bounds compressed profiles, in bytes.
	maxLayer = 16 << 20
)

// ErrNone says that there is no profile.
var ErrNone = errors.New("no profile")

// Push stores a profile, attached to subject unless that is nil, and returns its manifest, which is not tagged. Equal profiles of one image give the same manifest.
func Push(ctx context.Context, dst content.Storage, subject *ocispec.Descriptor, p *profile.Profile) (ocispec.Descriptor, error) {
	desc, err := push(ctx, dst, subject, p)
	if err != nil {
		return desc, fmt.Errorf("push profile: %w", registry.Explain(err))
	}
	return desc, nil
}

func push(ctx context.Context, dst content.Storage, subject *ocispec.Descriptor, p *profile.Profile) (ocispec.Descriptor, error) {
	var text bytes.Buffer
	if err := p.WriteCompressed(&text); err != nil {
		return ocispec.Descriptor{}, err
	}
	if text.Len() > maxLayer {
		return ocispec.Descriptor{}, fmt.Errorf("it takes %d bytes, at most %d are allowed", text.Len(), maxLayer)
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: Type, Config: content.NewDescriptorFromBytes(MediaTypeConfig, ocispec.DescriptorEmptyJSON.Data)}
	if subject != nil {
		m.Subject = &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	}
	layer := content.NewDescriptorFromBytes(MediaType, text.Bytes())
	m.Layers = []ocispec.Descriptor{layer}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, raw)
	desc.ArtifactType = Type
	for _, part := range []struct {
		desc ocispec.Descriptor
		data []byte
	}{{m.Config, ocispec.DescriptorEmptyJSON.Data}, {layer, text.Bytes()}, {desc, raw}} {
		if err := store(ctx, dst, part.desc, part.data); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	return desc, nil
}

// store sends what the target does not have yet.
func store(ctx context.Context, dst content.Storage, desc ocispec.Descriptor, data []byte) error {
	if there, err := dst.Exists(ctx, desc); err != nil || there {
		return err
	}
	err := dst.Push(ctx, desc, bytes.NewReader(data))
	if errors.Is(err, errdef.ErrAlreadyExists) { // somebody else was faster
		return nil
	}
	return err
}

// Load returns the profile that desc, a manifest in place, is or, if it is that of an image, what [Attached] returns.
func Load(ctx context.Context, place artifact.Place, desc ocispec.Descriptor, note func(string)) (*profile.Profile, error) {
	p, err := load(ctx, place, desc)
	if !errors.Is(err, ErrNone) {
		return p, err
	}
	return Attached(ctx, place, desc, note)
}

// load reads the profile whose manifest desc is.
func load(ctx context.Context, place artifact.Place, desc ocispec.Descriptor) (*profile.Profile, error) {
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return nil, fmt.Errorf("%s is %w but of type %s", desc.Digest, ErrNone, desc.MediaType)
	}
	m, err := manifest(ctx, place, desc)
	if err != nil {
		return nil, err
	}
	if m.ArtifactType != Type {
		return nil, fmt.Errorf("%s is %w", desc.Digest, ErrNone)
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != MediaType {
		return nil, fmt.Errorf("load profile %s: want one layer, of type %s", desc.Digest, MediaType)
	}
	text, err := fetch(ctx, place, m.Layers[0], maxLayer)
	if err != nil {
		return nil, fmt.Errorf("load profile %s: %w", desc.Digest, err)
	}
	p, err := profile.Read(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("load profile %s: %w", desc.Digest, err)
	}
	if m.Subject != nil {
		p.Subject = m.Subject.Digest.String()
	}
	return p, nil
}

// manifest reads a manifest, whatever it is one of.
func manifest(ctx context.Context, place artifact.Place, desc ocispec.Descriptor) (*ocispec.Manifest, error) {
	raw, err := fetch(ctx, place, desc, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("load manifest %s: %w", desc.Digest, err)
	}
	m := new(ocispec.Manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fmt.Errorf("load manifest %s: %w", desc.Digest, err)
	}
	return m, nil
}

// fetch reads and verifies up to limit bytes.
func fetch(ctx context.Context, place artifact.Place, desc ocispec.Descriptor, limit int64) (b []byte, err error) {
	if desc.Size < 0 || desc.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", desc.Digest, desc.Size, limit)
	}
	r, err := place.Target().Fetch(ctx, desc)
	if err != nil {
		return nil, registry.Explain(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return content.ReadAll(r, desc)
}
