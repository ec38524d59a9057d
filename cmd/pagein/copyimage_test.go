package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
	"github.com/pagein/pagein/profile"
)

// TestImagesAreCopiedWithTheirArtifacts copies to another repository an index whose images have artifacts attached, and one that names them.
func TestImagesAreCopiedWithTheirArtifacts(t *testing.T) {
	name, repo := platformsRegistry(t)
	if status, _, stderr := pagein(t, "pagein", "convert", "--quiet", "--platform=all", "--tag-suffix=-lazy", name+":v1"); status != exitSuccess {
		t.Fatalf("status %d: %s", status, stderr)
	}
	for _, tag := range []string{"v1-lazy", "v1"} {
		copied := name + "-copy-of-" + tag
		status, stdout, stderr := pagein(t, "pagein", "copy", "--image", "--json", name+":"+tag, copied+":new")
		if status != exitSuccess {
			t.Fatalf("status %d: %s", status, stderr)
		}
		var s copyImageSummary
		if err := json.Unmarshal([]byte(stdout), &s); err != nil || len(s.Artifacts) != 2 {
			t.Errorf("%+v, %v", s, err)
		}
		to := repositoryOf(t, copied)
		if got, want := resolve(t, to, "new").Digest, resolve(t, repo, tag).Digest; got != want {
			t.Errorf("%s is %s, its copy %s", tag, want, got)
		}
		for _, d := range read[ocispec.Index](t, repo, resolve(t, repo, "v1")).Manifests[:2] {
			found, err := (artifact.Place{Repository: to}).Attached(t.Context(), d)
			if err != nil || len(found) != 1 {
				t.Fatalf("attached to %s are %v, %v", d.Digest, found, err)
			}
			if status, _, stderr := pagein(t, "pagein", "check", "--quiet", copied+"@"+found[0].Digest.String()); status != exitSuccess {
				t.Errorf("check: status %d: %s", status, stderr)
			}
		}
		if all, err := (artifact.Place{Repository: to}).OfImage(t.Context(), resolve(t, to, "new")); err != nil || len(all) != 2 {
			t.Errorf("artifacts of the copy are %v, %v", all, err)
		}
	}
	if status, _, stderr := pagein(t, "pagein", "copy", "--image", name+":v1", "oci:"+t.TempDir()); status != exitUsage || !strings.Contains(stderr, "in registries") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// TestImagesAreCopiedWithTheirProfiles copies between registries of which one lists what is attached by a tag.
func TestImagesAreCopiedWithTheirProfiles(t *testing.T) {
	name, repo := platformsRegistry(t)
	_, elsewhere := platformsAt(t, servertest.Distribution(t, nil).Addr)
	image := read[ocispec.Index](t, repo, resolve(t, repo, "v1")).Manifests[1]
	var want []string
	for i := range 2 {
		desc, err := profiles.Push(t.Context(), repo, &image, &profile.Profile{Entries: []profile.Entry{{Path: "/a", Off: int64(i) * profile.PageSize, Len: profile.PageSize}}})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, desc.Digest.String())
	}
	slices.Sort(want)
	for _, to := range []*registry.Repository{repositoryOf(t, name+"-copy"), elsewhere} {
		var s copyImageSummary
		if err := json.Unmarshal([]byte(succeed(t, "copy", "--image", "--json", name+":v1", to.String()+":new")), &s); err != nil || !slices.Equal(s.Profiles, want) || len(s.Artifacts) != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		p, err := profiles.Attached(t.Context(), artifact.Place{Repository: to}, image, func(message string) { t.Error(message) })
		if err != nil {
			t.Fatal(err)
		}
		if _, bytes := p.Totals(); bytes != 2*profile.PageSize {
			t.Errorf("the copies name %d bytes", bytes)
		}
	}
}

func repositoryOf(t *testing.T, name string) *registry.Repository {
	t.Helper()
	client := registrytest.Client(t)
	ref, err := oci.ParseRef(name)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := client.Repository(ref)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}
