package trust

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/keytest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// TestNonsenseInListsAndManifestsTrustsNothing has a registry answer with descriptors that no registry should take: they are refused, nothing outside of the repository is asked for, and
// nobody panics.
func TestNonsenseInListsAndManifestsTrustsNothing(t *testing.T) {
	_, public := keytest.Pair(t, t.TempDir(), "key")
	sound := digest.FromString("sound")
	var descriptors []ocispec.Descriptor
	for _, d := range []digest.Digest{
		"", ":", "sha256", "sha256:", "sha256:x", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../../other/manifests/latest", "sha256:" + digest.Digest(strings.Repeat("A", 64)),
		"../../other/blobs/" + sound, "?x=" + sound, "#", "%2e%2e", digest.Digest("sha512:" + strings.Repeat("0", 128)), sound,
	} {
		for _, size := range []int64{-1, 0, 3, 1 << 62} {
			for _, mediaType := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, ""} {
				descriptors = append(descriptors, ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: size})
			}
		}
	}
	for _, d := range descriptors {
		// Each stands in the list of what is attached to the image, in that of the signatures of what is attached, and in a manifest of signatures.
		attached, signature := d, d
		attached.ArtifactType, signature.ArtifactType = artifact.Type, "application/vnd.dev.cosign.artifact.sig.v1+json"
		for _, mediaType := range []string{"application/vnd.dev.cosign.simplesigning.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json"} {
			layer := d
			layer.MediaType, layer.Annotations = mediaType, map[string]string{"dev.cosignproject.cosign/signature": "AAAA"}
			nonsense(t, []string{public}, attached, signature, ocispec.Manifest{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifact.Type, Config: layer, Layers: []ocispec.Descriptor{layer},
			})
		}
	}
}

// nonsense looks for the artifact of an image in a registry with what is given, which also stands under all tags.
func nonsense(t *testing.T, keys []string, attached, signature ocispec.Descriptor, m ocispec.Manifest) {
	t.Helper()
	answer := func(w http.ResponseWriter, mediaType string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(b).String())
		_, _ = w.Write(b) // to a client that may not want it
	}
	image := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	raw, err := json.Marshal(image)
	if err != nil {
		t.Fatal(err)
	}
	sound := m // what is attached is found, and has signatures that are nonsense
	sound.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	rawSound, err := json.Marshal(sound)
	if err != nil {
		t.Fatal(err)
	}
	right := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifact.Type, Digest: digest.FromBytes(rawSound), Size: int64(len(rawSound))}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch rest, in := strings.CutPrefix(r.URL.Path, "/v2/app/"); {
		case !in && r.URL.Path != "/v2/", slices.Contains(strings.Split(rest, "/"), ".."):
			t.Errorf("%+v: it asks for %s", attached, r.URL)
		case rest == "manifests/"+digest.FromBytes(raw).String():
			answer(w, ocispec.MediaTypeImageManifest, image)
			return
		case rest == "manifests/"+right.Digest.String():
			answer(w, ocispec.MediaTypeImageManifest, sound)
			return
		case rest == "referrers/"+digest.FromBytes(raw).String():
			answer(w, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{attached, right}})
			return
		case strings.HasPrefix(rest, "referrers/"):
			answer(w, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{signature}})
			return
		case strings.HasPrefix(rest, "manifests/") && !strings.Contains(rest, ":"):
			answer(w, ocispec.MediaTypeImageManifest, m)
			return
		}
		http.NotFound(w, r)
	}))
	defer srv.Close()
	client := registrytest.Client(t)
	ref := oci.Ref{Kind: oci.Registry, Host: strings.TrimPrefix(srv.URL, "http://"), Repository: "app", Digest: digest.FromBytes(raw)}
	place, err := artifact.Open(client, ref)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := New(Rule{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := place.Find(t.Context(), ref, nil, policy.Check); err == nil {
		t.Errorf("%+v: %+v is trusted", attached, a)
	}
	if _, err := place.Find(t.Context(), ref, nil, nil); err == nil {
		t.Errorf("%+v: it can be loaded", attached)
	}
	_, _ = place.OfImage(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: ref.Digest, Size: int64(len(raw))}) // neither does who deletes panic
}
