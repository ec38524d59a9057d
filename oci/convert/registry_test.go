package convert_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// registries starts each registry that the promises are tested with and returns its address.
var registries = map[string]func(t *testing.T) string{
	"ggcr with referrers": func(t *testing.T) string {
		return serve(t, ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))
	},
	"ggcr without referrers": func(t *testing.T) string {
		return serve(t, ggcr.Logger(log.New(io.Discard, "", 0)))
	},
	"distribution": func(t *testing.T) string {
		service, addr, err := lab.StartRegistry(context.Background(), require.Tool(t, "registry"), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := service.Stop(); err != nil {
				t.Error(err)
			}
		})
		return addr
	},
}

func serve(t *testing.T, o ...ggcr.Option) string {
	srv := httptest.NewServer(ggcr.New(o...))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestArtifactIsFoundAndReadInEveryRegistry(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			ctx, ref := context.Background(), reference(t, start(t)+"/team/app:v1")
			client := registrytest.Client(t)
			place, err := artifact.Open(client, ref)
			if err != nil {
				t.Fatal(err)
			}
			repo := place.Repository
			image := pushImage(t, repo, layersOfApp(t)...)
			if err := repo.Tag(ctx, image, "v1"); err != nil {
				t.Fatal(err)
			}
			desc, err := place.Resolve(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			r, err := convert.Image(ctx, repo, desc, repo, convert.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := repo.Tag(ctx, r.Descriptor, "v1-lazy"); err != nil {
				t.Fatal(err)
			}

			ref.Tag = "v1-lazy"
			a, err := place.Load(ctx, ref)
			if err != nil {
				t.Fatal(err)
			}
			if a.Descriptor.Digest != r.Descriptor.Digest {
				t.Errorf("the tag names %s, want %s", a.Descriptor.Digest, r.Descriptor.Digest)
			}
			if got, err := fs.ReadFile(open(t, repo, r.Descriptor), "old/y"); err != nil || string(got) != "new" {
				t.Errorf("old/y is %q, %v", got, err)
			}
			readFrames(t, repo, a)
			referred(t, repo, image, r.Descriptor)

			again, err := convert.Image(ctx, repo, desc, repo, convert.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if again.Descriptor.Digest != r.Descriptor.Digest || again.Sent != 0 {
				t.Errorf("the second conversion sent %d bytes and made %s", again.Sent, again.Descriptor.Digest)
			}
		})
	}
}

func reference(t *testing.T, s string) oci.Ref {
	t.Helper()
	ref, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// readFrames reads every frame by range, the way the daemon does.
func readFrames(t *testing.T, repo *registry.Repository, a *artifact.Artifact) {
	t.Helper()
	for i := range a.Blobs {
		want := decode(t, repo, a, i)
		m, err := a.FetchMap(context.Background(), i)
		if err != nil {
			t.Fatal(err)
		}
		for j := range m.Frames() {
			f := m.Frame(j)
			r, err := repo.Range(context.Background(), a.Blobs[i].Sources[f.Source], f.SrcOff, int64(f.SrcLen))
			if err != nil {
				t.Fatal(err)
			}
			src, err := io.ReadAll(r)
			if err != nil || r.Close() != nil {
				t.Fatal(err)
			}
			if got := unpackFrame(t, src, f); !bytes.Equal(got, want[f.Off:f.Off+int64(f.Len)]) {
				t.Errorf("frame %d of blob %d reads differently by range", j, i)
			}
		}
	}
}

// referred checks that the registry, or the tag that stands in for its referrers API, leads from the image to the artifact.
func referred(t *testing.T, repo *registry.Repository, image, want ocispec.Descriptor) {
	t.Helper()
	var found []ocispec.Descriptor
	err := repo.Referrers(context.Background(), image, "", func(descs []ocispec.Descriptor) error {
		found = append(found, descs...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Digest != want.Digest || found[0].ArtifactType != artifact.Type && found[0].ArtifactType != artifact.MediaTypeConfig { // not every registry has it right
		t.Errorf("the image's referrers are %v, want %s", found, want.Digest)
	}
}
