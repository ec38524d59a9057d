package image

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// blobs is a source, which serves what is stored under a digest whether or not it has it.
type blobs map[digest.Digest][]byte

func (s blobs) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	b, ok := s[desc.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (s blobs) put(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	desc := content.NewDescriptorFromBytes(mediaType, b)
	s[desc.Digest] = b
	return desc
}

func manifest(name, platform string) ocispec.Descriptor {
	d := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, []byte(name))
	if platform != "" {
		d.Platform, _ = ParsePlatform(platform)
	}
	return d
}

func TestTheImageForAPlatformIsChosen(t *testing.T) {
	arm, v8, v7 := manifest("arm64", "linux/arm64"), manifest("v8", "linux/arm64/v8"), manifest("v7", "linux/arm/v7")
	amd, windows, v6 := manifest("amd64", "linux/amd64"), manifest("windows", "windows/amd64"), manifest("v6", "linux/arm/v6")
	plain, attestation := manifest("plain", ""), manifest("attestation", "unknown/unknown")
	for _, c := range []struct {
		want  string
		index []ocispec.Descriptor
		found ocispec.Descriptor // none: an error
	}{
		{"linux/amd64", []ocispec.Descriptor{windows, arm, amd, attestation}, amd},
		{"windows/amd64", []ocispec.Descriptor{windows, amd}, windows},
		{"linux/arm64", []ocispec.Descriptor{amd, v8}, v8},
		{"linux/arm64/v8", []ocispec.Descriptor{amd, arm}, arm},
		{"linux/arm", []ocispec.Descriptor{v7, v6}, v7},
		{"linux/arm/v6", []ocispec.Descriptor{v7, v6}, v6},
		{"linux/arm/v5", []ocispec.Descriptor{v7, v6}, ocispec.Descriptor{}},
		{"linux/s390x", []ocispec.Descriptor{amd, attestation}, ocispec.Descriptor{}},
		{"linux/s390x", []ocispec.Descriptor{plain}, plain},
		{"linux/s390x", []ocispec.Descriptor{plain, amd}, ocispec.Descriptor{}},
		{"linux/s390x", nil, ocispec.Descriptor{}},
	} {
		src := blobs{}
		index := src.put(t, dockerIndex, ocispec.Index{Manifests: c.index})
		platform, err := ParsePlatform(c.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Choose(t.Context(), src, src.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{index}}), platform)
		if c.found.Digest != "" && (err != nil || got.Digest != c.found.Digest) {
			t.Errorf("%s: chose %s, want %s: %v", c.want, got.Digest, c.found.Digest, err)
		}
		if c.found.Digest == "" && (err == nil || !strings.Contains(err.Error(), "--platform") || strings.Contains(err.Error(), "unknown")) {
			t.Errorf("%s: error is %v, want one with what there is", c.want, err)
		}
	}
}

func TestIndexesInIndexesEnd(t *testing.T) {
	src := blobs{}
	desc := manifest("image", "")
	for range maxDepth + 1 {
		desc = src.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}}})
	}
	if _, err := Choose(t.Context(), src, desc, nil); err == nil || !strings.Contains(err.Error(), "lie in each other") {
		t.Errorf("error is %v", err)
	}
}

func TestImagesThatCannotBeReadAreRefusedWithTheReason(t *testing.T) {
	layer := content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayerZstd, []byte("layer"))
	with := func(change func(*ocispec.Descriptor)) []ocispec.Descriptor {
		d := layer
		change(&d)
		return []ocispec.Descriptor{d}
	}
	for name, c := range map[string]struct {
		layers []ocispec.Descriptor
		ids    []digest.Digest
		says   string // empty: it can be read
	}{
		"sound":        {[]ocispec.Descriptor{layer, layer}, []digest.Digest{layer.Digest, layer.Digest}, ""},
		"docker":       {with(func(d *ocispec.Descriptor) { d.MediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip" }), []digest.Digest{layer.Digest}, ""},
		"no layers":    {nil, nil, "0 layers"},
		"too many":     {make([]ocispec.Descriptor, maxLayers+1), make([]digest.Digest, maxLayers+1), "1001 layers"},
		"one diff ID":  {[]ocispec.Descriptor{layer, layer}, []digest.Digest{layer.Digest}, "its config lists 1"},
		"path as ID":   {[]ocispec.Descriptor{layer}, []digest.Digest{"sha256:../x"}, "diff ID"},
		"encrypted":    {with(func(d *ocispec.Descriptor) { d.MediaType += "+encrypted" }), []digest.Digest{layer.Digest}, "no readable tar"},
		"no tar":       {with(func(d *ocispec.Descriptor) { d.MediaType = "text/plain" }), []digest.Digest{layer.Digest}, "no readable tar"},
		"no digest":    {with(func(d *ocispec.Descriptor) { d.Digest = "" }), []digest.Digest{layer.Digest}, "digest"},
		"negative":     {with(func(d *ocispec.Descriptor) { d.Size = -1 }), []digest.Digest{layer.Digest}, "size is -1"},
		"other config": {[]ocispec.Descriptor{layer}, []digest.Digest{layer.Digest}, "it is no image"},
	} {
		src := blobs{}
		config := src.put(t, dockerConfig, ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: c.ids}})
		if name == "other config" {
			config.MediaType = "application/vnd.example"
		}
		desc := src.put(t, dockerManifest, ocispec.Manifest{Config: config, Layers: c.layers})
		img, err := Load(t.Context(), src, desc, nil)
		if c.says == "" && (err != nil || len(img.Layers) != len(c.layers) || img.Manifest.Digest != desc.Digest) {
			t.Errorf("%s: %v", name, err)
		}
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: error is %v, want one about %q", name, err, c.says)
		}
	}
}

func TestNothingIsBelievedBeforeItsDigestIsChecked(t *testing.T) {
	src := blobs{}
	desc := src.put(t, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{manifest("image", "")}})
	src[desc.Digest] = bytes.Replace(src[desc.Digest], []byte("sha256:"), []byte("sha512:"), 1)
	if _, err := Choose(t.Context(), src, desc, nil); err == nil || !strings.Contains(err.Error(), "mismatch") {
		t.Errorf("error is %v", err)
	}
	desc.Size = maxManifest + 1
	if _, err := Choose(t.Context(), src, desc, nil); err == nil || !strings.Contains(err.Error(), "are allowed") {
		t.Errorf("error is %v", err)
	}
}

func TestPlatformsAreWrittenAsTheyAreRead(t *testing.T) {
	for _, s := range []string{"linux/amd64", "linux/arm/v7"} {
		if p, err := ParsePlatform(s); err != nil || FormatPlatform(p) != s {
			t.Errorf("%s: %+v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "/amd64", "a/b/c/d"} {
		if p, err := ParsePlatform(s); err == nil {
			t.Errorf("%q is %+v", s, p)
		}
	}
}
