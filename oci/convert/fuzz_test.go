package convert_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/oci/convert"
)

// errPushed ends a conversion that has come as far as pushing.
var errPushed = errors.New("pushed")

// refusing is a destination that takes nothing.
type refusing struct{ content.Storage }

func (refusing) Exists(context.Context, ocispec.Descriptor) (bool, error)  { return false, nil }
func (refusing) Push(context.Context, ocispec.Descriptor, io.Reader) error { return errPushed }

// FuzzImage converts images whose manifest, config and layer are arbitrary, with digests put right so that they are looked into.
func FuzzImage(f *testing.F) {
	src := &lyingStore{blobs: map[digest.Digest][]byte{}}
	l := gzipLayer(f, tarOf(f, entry{name: "a/"}, entry{name: "a/.wh.b"}, entry{name: "c", body: "content"}))
	desc := pushImage(f, src, l)
	var m ocispec.Manifest
	if err := json.Unmarshal(src.blobs[desc.Digest], &m); err != nil {
		f.Fatal(err)
	}
	f.Add(src.blobs[desc.Digest], src.blobs[m.Config.Digest], l.stored)
	f.Fuzz(func(t *testing.T, manifest, config, layer []byte) {
		src := &lyingStore{blobs: map[digest.Digest][]byte{}}
		var m ocispec.Manifest
		if json.Unmarshal(manifest, &m) == nil {
			m.Config = put(src, m.Config.MediaType, config)
			for i := range m.Layers {
				m.Layers[i] = put(src, m.Layers[i].MediaType, layer)
			}
			b, err := json.Marshal(m)
			if err != nil {
				return
			}
			manifest = b
		}
		desc := put(src, ocispec.MediaTypeImageManifest, manifest)
		_, err := convert.Image(context.Background(), src, desc, refusing{}, convert.Options{TempDir: t.TempDir(), Blob: blob.WriterOptions{Workers: 1}})
		if err == nil {
			t.Fatal("converted although nothing can be pushed")
		}
	})
}

// put stores b under its own digest.
func put(s *lyingStore, mediaType string, b []byte) ocispec.Descriptor {
	desc := content.NewDescriptorFromBytes(mediaType, b)
	s.blobs[desc.Digest] = b
	return desc
}
