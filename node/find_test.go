package node

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// TestALayerIsNoLongerThanItsManifestSays has a registry that goes on sending: who unpacks what arrives finds out at the end only that it is not the layer.
func TestALayerIsNoLongerThanItsManifestSays(t *testing.T) {
	layer := bytes.Repeat([]byte("layer"), 1000)
	honest := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, digest.FromBytes(layer).String()) {
			honest.ServeHTTP(w, r)
			return
		}
		for range 100 { // without a length
			if _, err := w.Write(layer); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	ref := oci.Ref{Kind: oci.Registry, Host: strings.TrimPrefix(srv.URL, "http://"), Repository: "app"}
	client := registrytest.Client(t)
	repo, err := client.Repository(ref)
	if err != nil {
		t.Fatal(err)
	}
	push := func(mediaType string, v any) ocispec.Descriptor {
		t.Helper()
		b, ok := v.([]byte)
		if !ok {
			if b, err = json.Marshal(v); err != nil {
				t.Fatal(err)
			}
		}
		desc := content.NewDescriptorFromBytes(mediaType, b)
		if err := repo.Push(t.Context(), desc, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	diffID := digest.FromBytes(layer) // it is not compressed, and alone
	image := push(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: push(ocispec.MediaTypeImageConfig, ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}}),
		Layers: []ocispec.Descriptor{push(ocispec.MediaTypeImageLayer, layer)},
	})
	n := &Node{log: slog.New(slog.DiscardHandler)}
	defer n.remotes.close()
	ref.Digest = image.Digest
	body, id, err := n.Layer(t.Context(), ref, diffID)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || !bytes.Equal(b, layer) || id != diffID {
		t.Errorf("%s: %d bytes, %v; the layer has %d", id, len(b), err, len(layer))
	}
}
