package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// pushTestImage pushes an ordinary image with a layer for each directory, and tags it.
func pushTestImage(t *testing.T, ref string, dirs ...string) {
	t.Helper()
	tagTestImage(t, ref, func(dst oras.Target) ocispec.Descriptor { return putTestImage(t, dst, dirs) })
}

// pushTestIndex pushes an index with such an image for this machine.
func pushTestIndex(t *testing.T, ref string, dirs ...string) {
	t.Helper()
	tagTestImage(t, ref, func(dst oras.Target) ocispec.Descriptor {
		desc := putTestImage(t, dst, dirs)
		desc.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
		index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}}
		b, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		desc = content.NewDescriptorFromBytes(index.MediaType, b)
		if err := dst.Push(t.Context(), desc, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return desc
	})
}

// tagTestImage tags what put puts where ref says.
func tagTestImage(t *testing.T, ref string, put func(oras.Target) ocispec.Descriptor) {
	t.Helper()
	parsed, err := oci.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	client := registrytest.Client(t)
	place, err := artifact.Open(client, parsed)
	if err != nil {
		t.Fatal(err)
	}
	if err := place.Target().Tag(t.Context(), put(place.Target()), parsed.Reference()); err != nil {
		t.Fatal(err)
	}
}

func putTestImage(t *testing.T, dst oras.Target, dirs []string) ocispec.Descriptor {
	t.Helper()
	gnutar := require.Tool(t, "tar")
	put := func(mediaType string, b []byte) ocispec.Descriptor {
		t.Helper()
		desc := content.NewDescriptorFromBytes(mediaType, b)
		if err := dst.Push(t.Context(), desc, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	putJSON := func(mediaType string, v any) ocispec.Descriptor {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return put(mediaType, b)
	}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, dir := range dirs {
		b, err := exec.Command(gnutar, "-c", "--format=pax", "--pax-option=delete=atime,delete=ctime", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", dir, ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, put(ocispec.MediaTypeImageLayer, b))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(b))
	}
	m.Config = putJSON(ocispec.MediaTypeImageConfig, config)
	return putJSON(m.MediaType, m)
}

// createLayout makes the empty layout that ref names.
func createLayout(t *testing.T, ref string) {
	t.Helper()
	parsed, err := oci.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Create(parsed.Path); err != nil {
		t.Fatal(err)
	}
}

// output runs a program that must succeed.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}
