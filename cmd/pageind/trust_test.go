package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/internal/keytest"
	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry/registrytest"
)

// elsewhere is a name of the lab's registry that is not on loopback. It returns a directory that tells where it is.
func (r *runtimeLab) elsewhere() (host, hostsDir string) {
	r.Helper()
	host, hostsDir = "registry.example.com", filepath.Join(r.dir, "hosts")
	if err := os.MkdirAll(filepath.Join(hostsDir, host), 0o755); err != nil {
		r.Fatal(err)
	}
	toml := fmt.Appendf(nil, "server = %q\n", "http://"+r.registry)
	if err := os.WriteFile(filepath.Join(hostsDir, host, "hosts.toml"), toml, 0o644); err != nil {
		r.Fatal(err)
	}
	return host, hostsDir
}

// lyingArtifact converts a repository's image and then makes of its artifact one that belongs to another image, which has the layers of a third one, as it says. It returns the liar's
// manifest.
func (r *runtimeLab) lyingArtifact(repository string, liar []imageLayer) {
	r.Helper()
	client := registrytest.Client(r.T)
	ref := oci.Ref{Kind: oci.Registry, Host: r.registry, Repository: repository, Tag: "1"}
	place, made, err := artifact.Find(r.Context(), client, ref, nil)
	if err != nil {
		r.Fatal(err)
	}
	r.push(repository, liar...) // takes the tag
	subject, err := place.Resolve(r.Context(), ref)
	if err != nil {
		r.Fatal(err)
	}
	var manifest ocispec.Manifest
	var config artifact.Config
	r.fetch(place, made.Descriptor, &manifest)
	r.fetch(place, manifest.Config, &config)
	chain := digest.Digest("")
	for i, l := range liar {
		if chain == "" {
			chain = l.diffID
		} else {
			chain = digest.FromString(chain.String() + " " + l.diffID.String())
		}
		config.Chains[i] = chain
	}
	put := func(mediaType string, v any) ocispec.Descriptor {
		desc, b := inJSON(r.lab, mediaType, v)
		if err := place.Repository.Push(r.Context(), desc, bytes.NewReader(b)); err != nil {
			r.Fatal(err)
		}
		return desc
	}
	manifest.Config = put(artifact.MediaTypeConfig, config)
	manifest.Subject = &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	put(ocispec.MediaTypeImageManifest, manifest)
}

func (r *runtimeLab) fetch(place artifact.Place, desc ocispec.Descriptor, v any) {
	r.Helper()
	b, err := content.FetchAll(r.Context(), place.Target(), desc)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		r.Fatal(err)
	}
}

// tags are those of a repository.
func (r *runtimeLab) tags(repository string) (all []string) {
	r.Helper()
	client := registrytest.Client(r.T)
	repo, err := client.Repository(oci.Ref{Kind: oci.Registry, Host: r.registry, Repository: repository})
	if err != nil {
		r.Fatal(err)
	}
	if err := repo.Tags(r.Context(), "", func(tags []string) error { all = append(all, tags...); return nil }); err != nil {
		r.Fatal(err)
	}
	return all
}

// TestNoImageRunsOnTheChainOfOneThatLies has an image that claims the layers of another one, and an artifact that claims to stand for them. Who trusts its repository
// sees what it shows.
func TestNoImageRunsOnTheChainOfOneThatLies(t *testing.T) {
	beside(t)
	r := newRuntimeLab(t)
	host, hostsDir := r.elsewhere()
	r.push("victim", r.layers...)
	evil := []imageLayer{
		r.layers[0],
		r.layer(tartest.Directory("data", 0o755), tartest.File("data/random", "evil"), tartest.File(".wh.gone", "")),
		r.layer(tartest.File("three", "evil\n")),
	}
	r.pagein("convert", "--quiet", r.push("evil", evil...)) // it does not lie yet
	for i := range evil {
		evil[i].diffID = r.layers[i].diffID
	}
	r.lyingArtifact("evil", evil)
	key, _ := keytest.Pair(t, r.dir, "key")
	if _, err := r.try("convert", "--sign-key="+key, r.registry+"/evil:1"); err == nil || !strings.Contains(err.Error(), "that the image's config promises") {
		t.Errorf("pagein converts an image that lies: %v", err)
	}
	if tags := r.tags("evil"); slices.ContainsFunc(tags, func(tag string) bool { return strings.HasSuffix(tag, ".sig") }) {
		t.Errorf("something of an image that lies is signed: %v", tags)
	}

	pull := func(repository string) (string, error) {
		image := host + "/" + repository + ":1"
		_, err := r.Try("images", "pull", "--hosts-dir", hostsDir, "--snapshotter", "pagein", image)
		return image, err
	}
	if _, err := pull("evil"); err == nil || !strings.Contains(r.said(), host+"/evil is not trusted") {
		t.Errorf("an image that lies can be pulled: %v", err)
	}
	victim, err := pull("victim")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.run(victim, "sha256sum", "/data/random"); got != digestOf(r.data, "/data/random") {
		t.Errorf("it reads %q", got)
	}
	r.Ctr("images", "rm", "--sync", victim)

	// The lie would work but for the policy.
	r.stop(unix.SIGTERM)
	r.serve(r.configure("hosts-dirs = [%q]\n[trust]\nrepositories = [%q]\n", hostsDir, host+"/*")...)
	image, err := pull("evil")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.run(image, "cat", "/data/random"); got != "evil" {
		t.Errorf("it reads %q", got)
	}
}
