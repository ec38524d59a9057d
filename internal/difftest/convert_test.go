package difftest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/oci/convert"
)

func artifactOfDir(t testing.TB, dir string) difftest.Image {
	t.Helper()
	l := memory.New()
	r, err := convert.Dir(context.Background(), dir, l, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return difftest.Unpack(t, l, r.Descriptor)
}

// artifactOfLayers converts an image with the given layers, the bottom one first.
func artifactOfLayers(t testing.TB, layers ...[]byte) difftest.Image {
	t.Helper()
	l := memory.New()
	r, err := convert.Image(context.Background(), l, pushImage(t, l, layers), l, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return difftest.Unpack(t, l, r.Descriptor)
}

// pushImage stores an image and returns its manifest.
func pushImage(t testing.TB, dst content.Storage, layers [][]byte) ocispec.Descriptor {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, RootFS: ocispec.RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		m.Layers = append(m.Layers, push(t, dst, ocispec.MediaTypeImageLayer, l))
	}
	m.Config = pushJSON(t, dst, ocispec.MediaTypeImageConfig, config)
	return pushJSON(t, dst, m.MediaType, m)
}

func pushJSON(t testing.TB, dst content.Storage, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return push(t, dst, mediaType, b)
}

func push(t testing.TB, dst content.Storage, mediaType string, b []byte) ocispec.Descriptor {
	t.Helper()
	desc := content.NewDescriptorFromBytes(mediaType, b)
	if err := dst.Push(context.Background(), desc, bytes.NewReader(b)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		t.Fatal(err)
	}
	return desc
}
