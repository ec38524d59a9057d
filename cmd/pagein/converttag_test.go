package main

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"oras.land/oras-go/v2"

	"github.com/pagein/pagein/oci/layout"
)

// imageLayout is a layout that another tool wrote, with one image "v1".
func imageLayout(t *testing.T) (dir, digest string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "image")
	image, err := random.Image(5000, 2)
	if err != nil {
		t.Fatal(err)
	}
	path, err := ggcrlayout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	annotations := map[string]string{"org.opencontainers.image.ref.name": "v1"}
	if err := path.AppendImage(image, ggcrlayout.WithAnnotations(annotations)); err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return dir, hash.String()
}

// tagged returns the digest that a tag of a target names.
func tagged(t *testing.T, target oras.ReadOnlyTarget, tag string) string {
	t.Helper()
	desc, err := target.Resolve(context.Background(), tag)
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest.String()
}

func TestConvertLeavesTheTagsOfImagesAlone(t *testing.T) {
	for name, operands := range map[string]func(dir, digest string) (src, dst string){
		"same name":                    func(dir, _ string) (string, string) { return "oci:" + dir + ":v1", "oci:" + dir + ":v1" },
		"source without a tag":         func(dir, _ string) (string, string) { return "oci:" + dir, "oci:" + dir + ":v1" },
		"neither has a tag":            func(dir, _ string) (string, string) { return "oci:" + dir, "oci:" + dir },
		"source by digest":             func(dir, d string) (string, string) { return "oci:" + dir + "@" + d, "oci:" + dir + ":v1" },
		"source by tag and digest":     func(dir, d string) (string, string) { return "oci:" + dir + ":v1@" + d, "oci:" + dir + ":v1" },
		"source below another name":    func(dir, _ string) (string, string) { return "oci:" + dir + "/../image:v1", "oci:" + dir + ":v1" },
		"source by a relative path":    func(dir, _ string) (string, string) { return "oci:image:v1", "oci:" + dir + ":v1" },
		"a directory over an image":    func(dir, _ string) (string, string) { return "dir:" + dir, "oci:" + dir + ":v1" },
		"a directory over a lone name": func(dir, _ string) (string, string) { return "dir:" + dir, "oci:" + dir },
	} {
		t.Run(name, func(t *testing.T) {
			dir, digest := imageLayout(t)
			t.Chdir(filepath.Dir(dir))
			src, dst := operands(dir, digest)
			status, _, stderr := pagein(t, "pagein", "convert", src, dst)
			if status != exitFailure || !strings.Contains(stderr, "the image would lose its own") {
				t.Errorf("status %d, %s", status, stderr)
			}
			store, err := layout.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := tagged(t, store, "v1"); got != digest {
				t.Errorf("v1 names %s, the image is %s", got, digest)
			}
		})
	}
}

func TestConvertMovesTheTagOfAnArtifact(t *testing.T) {
	dir, _ := imageLayout(t)
	first := convertJSON(t, "oci:"+dir+":v1", "oci:"+dir+":lazy")
	second := convertJSON(t, "dir:"+convertible(t), "oci:"+dir+":lazy")
	store, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := tagged(t, store, "lazy"); got != second.Descriptor.Digest.String() || got == first.Descriptor.Digest.String() {
		t.Errorf("lazy names %s after converting %s and %s", got, first.Reference, second.Reference)
	}
}

func TestConvertLeavesTheTagsOfImagesInARegistryAlone(t *testing.T) {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true)))
	t.Cleanup(srv.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	name := strings.TrimPrefix(srv.URL, "http://") + "/app"
	repo := repositoryOf(t, name)
	dir, digest := imageLayout(t)
	store, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"v1", "latest"} {
		if _, err := oras.Copy(t.Context(), store, "v1", repo, tag, oras.DefaultCopyOptions); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range [][2]string{
		{name + ":v1", name + ":v1"}, {name + "@" + digest, name + ":v1"}, {name, name}, {name + ":v1@" + digest, name}, {"oci:" + dir, name + ":v1"},
	} {
		status, _, stderr := pagein(t, "pagein", "convert", c[0], c[1])
		if status != exitFailure || !strings.Contains(stderr, "the image would lose its own") {
			t.Errorf("%s to %s: status %d, %s", c[0], c[1], status, stderr)
		}
	}
	convertJSON(t, name+":v1", name+":lazy")
	convertJSON(t, name+":v1", name+":lazy")
	for _, tag := range []string{"v1", "latest"} {
		if got := tagged(t, repo, tag); got != digest {
			t.Errorf("%s names %s, the image is %s", tag, got, digest)
		}
	}
}
