// Package image reads what an image is: which manifest of an index is meant for a platform, and which layers that manifest lists.
//
// It knows the manifests of OCI and of Docker and believes none of them before its digest is checked. What is in a layer, it does not know.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/oci/registry"
	"oras.land/oras-go/v2/content"
)

// Docker's names for what OCI standardised.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
)

const (
	maxManifest = 4 << 20 // bytes, as registries limit it
	maxConfig   = 16 << 20
	maxLayers   = 1000
	maxDepth    = 4 // indexes in indexes
)

// Image is an image for one platform.
type Image struct {
	Manifest ocispec.Descriptor
	Layers   []ocispec.Descriptor // bottom first, at least one
	DiffIDs  []digest.Digest      // of the layers' plain tars, as many as there are layers
}

// ChainIDs are what containerd knows the layers by, each with all that is below it; bottom first.
func (i *Image) ChainIDs() []digest.Digest {
	return identity.ChainIDs(slices.Clone(i.DiffIDs)) // it works in place
}

// Load finds the image for a platform, nil meaning Linux on this machine's architecture, in the manifest or index desc, and reads what lists its
// layers.
func Load(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, platform *ocispec.Platform) (*Image, error) {
	desc, err := Choose(ctx, src, desc, platform)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := fetchJSON(ctx, src, desc, maxManifest, &m); err != nil {
		return nil, fmt.Errorf("read image manifest: %w", err)
	}
	if m.Config.MediaType != ocispec.MediaTypeImageConfig && m.Config.MediaType != dockerConfig {
		return nil, fmt.Errorf("read image manifest %s: it is no image but carries a %s", desc.Digest, m.Config.MediaType)
	}
	var config ocispec.Image
	if err := fetchJSON(ctx, src, m.Config, maxConfig, &config); err != nil {
		return nil, fmt.Errorf("read image config: %w", err)
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("image %s has %d layers, not 1 to %d", desc.Digest, len(m.Layers), maxLayers)
	}
	if len(m.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("image %s has %d layers, but its config lists %d", desc.Digest, len(m.Layers), len(config.RootFS.DiffIDs))
	}
	for i, l := range m.Layers {
		if err := checkLayer(l); err != nil {
			return nil, fmt.Errorf("layer %d of image %s: %w", i+1, desc.Digest, err)
		}
		if err := config.RootFS.DiffIDs[i].Validate(); err != nil {
			return nil, fmt.Errorf("layer %d of image %s: diff ID %q: %w", i+1, desc.Digest, config.RootFS.DiffIDs[i], err)
		}
	}
	return &Image{Manifest: desc, Layers: m.Layers, DiffIDs: config.RootFS.DiffIDs}, nil
}

func checkLayer(l ocispec.Descriptor) error {
	if err := l.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", l.Digest, err)
	}
	if l.Size < 0 {
		return fmt.Errorf("size is %d", l.Size)
	}
	if !strings.Contains(l.MediaType, ".tar") || strings.HasSuffix(l.MediaType, "+encrypted") {
		return fmt.Errorf("it is of type %q, which is no readable tar", l.MediaType)
	}
	return nil
}

// Choose follows indexes to the manifest for a platform, nil meaning Linux on this machine's architecture. What is no index is returned as it is, if it is
// a manifest.
func Choose(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	if platform == nil {
		platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	return choose(ctx, src, desc, platform, 0)
}

func choose(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, platform *ocispec.Platform, depth int) (ocispec.Descriptor, error) {
	switch desc.MediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest:
		return desc, nil
	case ocispec.MediaTypeImageIndex, dockerIndex:
	default:
		return desc, fmt.Errorf("%s is no image: it is of type %q", desc.Digest, desc.MediaType)
	}
	if depth == maxDepth {
		return desc, fmt.Errorf("more than %d indexes lie in each other", maxDepth)
	}
	var index ocispec.Index
	if err := fetchJSON(ctx, src, desc, maxManifest, &index); err != nil {
		return desc, fmt.Errorf("read image index: %w", err)
	}
	best, found := pick(index.Manifests, platform)
	if !found {
		return desc, fmt.Errorf("index %s has no image for %s, only %s: choose with --platform",
			desc.Digest, FormatPlatform(platform), offered(index.Manifests))
	}
	return choose(ctx, src, best, platform, depth+1)
}

// pick returns the first manifest for the platform, or the first with another variant if none was asked for. What has no platform is taken
// if it is alone.
func pick(all []ocispec.Descriptor, want *ocispec.Platform) (best ocispec.Descriptor, found bool) {
	for _, d := range all {
		p := d.Platform
		if p == nil || p.OS != want.OS || p.Architecture != want.Architecture {
			continue
		}
		if variant(p) == variant(want) {
			return d, true
		}
		if want.Variant == "" && !found {
			best, found = d, true
		}
	}
	if len(all) == 1 && all[0].Platform == nil {
		return all[0], true
	}
	return best, found
}

// variant normalises the one default that the world agrees on.
func variant(p *ocispec.Platform) string {
	if p.Architecture == "arm64" && p.Variant == "v8" {
		return ""
	}
	return p.Variant
}

func offered(all []ocispec.Descriptor) string {
	var names []string
	for _, d := range all {
		if d.Platform != nil && d.Platform.OS != "unknown" && len(names) < 20 { // attestations are "unknown"
			names = append(names, FormatPlatform(d.Platform))
		}
	}
	if len(names) == 0 {
		return "manifests without a platform"
	}
	return strings.Join(names, ", ")
}

// ParsePlatform reads "os/architecture[/variant]".
func ParsePlatform(s string) (*ocispec.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return nil, fmt.Errorf("platform %q: write OS/ARCHITECTURE[/VARIANT], such as linux/amd64", s)
	}
	p := &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// FormatPlatform writes what ParsePlatform reads.
func FormatPlatform(p *ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// fetchJSON reads, verifies and parses a small blob.
func fetchJSON(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, limit int64, v any) error {
	if desc.Size < 0 || desc.Size > limit {
		return fmt.Errorf("%s has %d bytes, at most %d are allowed", desc.Digest, desc.Size, limit)
	}
	r, err := src.Fetch(ctx, desc)
	if err != nil {
		return registry.Explain(err)
	}
	b, err := content.ReadAll(r, desc)
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", desc.Digest, err)
	}
	return nil
}
