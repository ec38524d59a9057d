package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ggcrv1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/registry"
)

// platformsRegistry has an index "v1" of images for two platforms and an attestation, without the referrers API.
func platformsRegistry(t *testing.T) (name string, repo *registry.Repository) {
	t.Helper()
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	return platformsAt(t, strings.TrimPrefix(srv.URL, "http://"))
}

// platformsAt puts that index into the repository "app" of a registry.
func platformsAt(t *testing.T, host string) (name string, repo *registry.Repository) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	name = host + "/app"
	var index ggcrv1.ImageIndex = empty.Index
	for _, p := range []ggcrv1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "unknown", Architecture: "unknown"}} {
		image, err := random.Image(5000, 2)
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: ggcrv1.Descriptor{Platform: &p}})
	}
	dir := filepath.Join(t.TempDir(), "image")
	path, err := ggcrlayout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index, ggcrlayout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: "v1"})); err != nil {
		t.Fatal(err)
	}
	store, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	repo = repositoryOf(t, name)
	if _, err := oras.Copy(t.Context(), store, "v1", repo, "v1", oras.DefaultCopyOptions); err != nil {
		t.Fatal(err)
	}
	return name, repo
}

// read fetches and parses a manifest or an index.
func read[T any](t *testing.T, repo *registry.Repository, desc ocispec.Descriptor) (v T) {
	t.Helper()
	b, err := content.FetchAll(t.Context(), repo, desc)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func resolve(t *testing.T, repo *registry.Repository, tag string) ocispec.Descriptor {
	t.Helper()
	desc, err := repo.Resolve(context.Background(), tag)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestPlatformsOfAnIndexAreConvertedEach(t *testing.T) {
	for platforms, want := range map[string][]string{
		"all": {"amd64", "arm64"}, "linux/arm64": {"arm64"}, "linux/arm64,linux/amd64,linux/arm64": {"arm64", "amd64"},
	} {
		name, repo := platformsRegistry(t)
		before := resolve(t, repo, "v1")
		status, stdout, stderr := pagein(t, "pagein", "convert", "--json", "--platform", platforms, name+":v1")
		if status != exitSuccess {
			t.Fatalf("status %d: %s", status, stderr)
		}
		var got []string
		images := read[ocispec.Index](t, repo, before).Manifests
		for dec := json.NewDecoder(strings.NewReader(stdout)); dec.More(); {
			var s convertSummary
			if err := dec.Decode(&s); err != nil {
				t.Fatal(err)
			}
			a, err := artifact.Load(t.Context(), repo, s.Descriptor, "test")
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(images, func(d ocispec.Descriptor) bool { return a.Subject != nil && d.Digest == a.Subject.Digest })
			if i < 0 || len(a.Chains) != 2 {
				t.Fatalf("subject %v, chain IDs %v", a.Subject, a.Chains)
			}
			got = append(got, images[i].Platform.Architecture)
			if found, err := (artifact.Place{Repository: repo}).Attached(t.Context(), images[i]); err != nil || len(found) != 1 || found[0].Digest != a.Descriptor.Digest {
				t.Errorf("attached are %v, %v", found, err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s gives artifacts for %v", platforms, got)
		}
		if after := resolve(t, repo, "v1"); after.Digest != before.Digest {
			t.Errorf("v1 was %s and is %s", before.Digest, after.Digest)
		}
	}
}

// TestTheSuffixedTagIsTheSameImageAndNamesItsArtifact converts one of two platforms, then both.
func TestTheSuffixedTagIsTheSameImageAndNamesItsArtifact(t *testing.T) {
	name, repo := platformsRegistry(t)
	before := resolve(t, repo, "v1")
	images := read[ocispec.Index](t, repo, before).Manifests
	for platforms, named := range map[string]int{"linux/amd64": 1, "all": 2} {
		if status, _, stderr := pagein(t, "pagein", "convert", "--platform", platforms, "--tag-suffix=-lazy", name+":v1"); status != exitSuccess {
			t.Fatalf("status %d: %s", status, stderr)
		}
		if after := resolve(t, repo, "v1"); after.Digest != before.Digest {
			t.Errorf("v1 was %s and is %s", before.Digest, after.Digest)
		}
		copied := read[ocispec.Index](t, repo, resolve(t, repo, "v1-lazy")).Manifests
		if len(copied) != len(images) {
			t.Fatalf("of %d images there are %d", len(images), len(copied))
		}
		for i, d := range copied {
			if d.Platform == nil || d.Platform.Architecture != images[i].Platform.Architecture {
				t.Errorf("image %d is for %v", i, d.Platform)
			}
			if i >= named {
				if d.Digest != images[i].Digest {
					t.Errorf("%s: image %d changed without an artifact", platforms, i)
				}
				continue
			}
			was, is := read[ocispec.Manifest](t, repo, images[i]), read[ocispec.Manifest](t, repo, d)
			if is.Config.Digest != was.Config.Digest || len(is.Layers) != len(was.Layers) {
				t.Errorf("%s: image %d has config %s and %d layers", platforms, i, is.Config.Digest, len(is.Layers))
			}
			for j, l := range is.Layers {
				ref, err := oci.ParseRef(l.Annotations[artifact.Annotation])
				if err != nil || ref.Host+"/"+ref.Repository != name || l.Digest != was.Layers[j].Digest {
					t.Fatalf("layer %d is %+v, %v", j, l, err)
				}
				a, err := (artifact.Place{Repository: repo}).Load(t.Context(), ref)
				if err != nil || a.Subject == nil || a.Subject.Digest != images[i].Digest {
					t.Errorf("%s: %v, %v", ref, a, err)
				}
			}
		}
	}
}

func TestTheSuffixedTagTakesNoTagFromAnotherImage(t *testing.T) {
	name, repo := platformsRegistry(t)
	before := resolve(t, repo, "v1")
	if err := repo.Tag(t.Context(), before, "v1-lazy"); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := pagein(t, "pagein", "convert", "--tag-suffix=-lazy", name+":v1")
	if status != exitFailure || !strings.Contains(stderr, "choose another suffix") || resolve(t, repo, "v1-lazy").Digest != before.Digest {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestMisusedAttachingIsExplained(t *testing.T) {
	for _, args := range [][]string{
		{"--platform", "all", "127.0.0.1:1/a:1", "127.0.0.1:1/b:1"},
		{"--platform", "linux/amd64,linux/arm64", "127.0.0.1:1/a:1", "oci:b"},
		{"--tag-suffix", "-lazy", "127.0.0.1:1/a:1", "127.0.0.1:1/b:1"},
		{"--tag-suffix", "-lazy", "127.0.0.1:1/a"},
		{"--tag-suffix", "/x", "127.0.0.1:1/a:1"},
	} {
		if status, _, stderr := pagein(t, append([]string{"pagein", "convert"}, args...)...); status != exitUsage {
			t.Errorf("%q: status %d: %s", args, status, stderr)
		}
	}
}
