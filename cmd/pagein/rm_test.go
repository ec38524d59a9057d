package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/profiles"
	"github.com/pagein/pagein/oci/signature"
	"github.com/pagein/pagein/profile"
)

func TestImagesAreDeletedWithTheirArtifacts(t *testing.T) {
	name, repo := platformsAt(t, servertest.Distribution(t, nil).Addr)
	place := artifact.Place{Repository: repo}
	attached := func() (n int) {
		t.Helper()
		all, err := place.OfImage(t.Context(), resolve(t, repo, "v1"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	must := func(args ...string) string {
		t.Helper()
		status, stdout, stderr := pagein(t, append([]string{"pagein"}, args...)...)
		if status != exitSuccess {
			t.Fatalf("%q: status %d: %s", args, status, stderr)
		}
		return stdout
	}
	before := resolve(t, repo, "v1")
	images := read[ocispec.Index](t, repo, before).Manifests
	must("convert", "--quiet", "--platform=all", name+":v1")
	if n := attached(); n != 2 {
		t.Fatalf("%d artifacts are attached", n)
	}
	if out := must("rm", "--artifacts", name+":v1"); strings.Count(out, name+"@sha256:") != 2 || attached() != 0 || resolve(t, repo, "v1").Digest != before.Digest {
		t.Errorf("%d artifacts are left; it says %q", attached(), out)
	}
	must("convert", "--quiet", "--platform=all", name+":v1")
	if err := repo.Tag(t.Context(), before, "other"); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := pagein(t, "pagein", "rm", name+":v1"); status != exitFailure || !strings.Contains(stderr, "tag other names the same manifest") || attached() != 2 {
		t.Errorf("status %d: %s", status, stderr)
	}
	if out := must("rm", name+"@"+before.Digest.String()); strings.Count(out, name+"@sha256:") != 3 {
		t.Errorf("it says %q", out)
	}
	if _, err := repo.Resolve(t.Context(), "v1"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("v1: %v", err)
	}
	for _, d := range images[:2] {
		if left, err := place.Attached(t.Context(), d); err != nil || len(left) > 0 {
			t.Errorf("attached to %s are still %v, %v", d.Digest, left, err)
		}
	}
}

// TestNothingElseIsDeletedWithAnImage has somebody who may push, but not delete, call other things artifacts of an image, or signatures of its artifact.
func TestNothingElseIsDeletedWithAnImage(t *testing.T) {
	name, repo := platformsAt(t, servertest.Distribution(t, nil).Addr)
	key, _ := opensslKeys(t, "ed25519")
	images := read[ocispec.Index](t, repo, resolve(t, repo, "v1")).Manifests
	put := func(mediaType, tag string, v any) ocispec.Descriptor {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		desc := content.NewDescriptorFromBytes(mediaType, b)
		if err := repo.PushReference(t.Context(), desc, bytes.NewReader(b), tag); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	list := func(of ocispec.Descriptor, artifactType string, manifests ...ocispec.Descriptor) {
		t.Helper()
		var all []ocispec.Descriptor
		for _, m := range manifests {
			all = append(all, ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: artifactType})
		}
		put(ocispec.MediaTypeImageIndex, strings.Replace(of.Digest.String(), ":", "-", 1),
			ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: all})
	}
	var artifacts, signatures []ocispec.Descriptor
	for _, platform := range []string{"linux/amd64", "linux/arm64"} {
		made := convertJSON(t, "--sign-key="+key, "--platform="+platform, name+":v1")
		artifacts, signatures = append(artifacts, made.Descriptor), append(signatures, resolve(t, repo, signature.Tag(made.Descriptor.Digest)))
	}
	release := images[1]
	list(images[0], artifact.Type, release, artifacts[1], signatures[1], artifacts[0])
	list(artifacts[0], "application/vnd.dev.cosign.artifact.sig.v1+json", release, artifacts[1], signatures[1], signatures[0])
	if err := repo.Tag(t.Context(), release, signature.Tag(artifacts[0].Digest)); err != nil {
		t.Fatal(err)
	}
	m := read[ocispec.Manifest](t, repo, images[0])
	m.Layers[0].Annotations = map[string]string{artifact.Annotation: name + "@" + release.Digest.String()}
	evil := put(m.MediaType, "evil", m)

	for ref, want := range map[string]string{
		name + "@" + images[0].Digest.String(): name + "@" + signatures[0].Digest.String() + "\n" + name + "@" + artifacts[0].Digest.String() + "\n" + name + "@" + images[0].Digest.String() + "\n",
		name + ":evil":                         name + "@" + evil.Digest.String() + "\n",
	} {
		if got := succeed(t, "rm", ref); got != want {
			t.Errorf("with %s it deletes\n%swant\n%s", ref, got, want)
		}
	}
	for _, d := range []ocispec.Descriptor{release, artifacts[1], signatures[1]} {
		if _, err := repo.Resolve(t.Context(), d.Digest.String()); err != nil {
			t.Errorf("%s: %v", d.Digest, err)
		}
	}
}

// TestProfilesAreDeletedWithTheirImages has one that is listed as the image's and is of another one.
func TestProfilesAreDeletedWithTheirImages(t *testing.T) {
	name, repo := platformsAt(t, servertest.Distribution(t, nil).Addr)
	index := resolve(t, repo, "v1")
	ours, theirs := read[ocispec.Index](t, repo, index).Manifests[0], read[ocispec.Index](t, repo, index).Manifests[1]
	push := func(of ocispec.Descriptor) ocispec.Descriptor {
		t.Helper()
		desc, err := profiles.Push(t.Context(), repo, &of, &profile.Profile{Entries: []profile.Entry{{Path: "/a", Len: profile.PageSize}}})
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	line := func(desc ocispec.Descriptor) string { return name + "@" + desc.Digest.String() + "\n" }
	image := name + "@" + ours.Digest.String()
	other := push(theirs)
	list, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: other.MediaType, Digest: other.Digest, Size: other.Size, ArtifactType: profiles.Type}},
	})
	if err != nil {
		t.Fatal(err)
	}
	tag := strings.Replace(ours.Digest.String(), ":", "-", 1)
	if err := repo.PushReference(t.Context(), content.NewDescriptorFromBytes(ocispec.MediaTypeImageIndex, list), bytes.NewReader(list), tag); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := pagein(t, "pagein", "profile", "show", image); status != exitFailure || !strings.Contains(stderr, other.Digest.String()+" does not belong to") {
		t.Errorf("status %d: %s", status, stderr)
	}
	first := push(ours)
	if out := succeed(t, "rm", "--artifacts", "--keep-profiles", image); out != "" {
		t.Errorf("it deletes %q", out)
	}
	if out := succeed(t, "rm", strings.TrimSpace(line(first))); out != line(first) {
		t.Errorf("of a profile it deletes %q", out)
	}
	first = push(ours)
	if out := succeed(t, "rm", "--artifacts", image); out != line(first) {
		t.Errorf("it deletes %q, want %q", out, line(first))
	}
	first = push(ours)
	if out := succeed(t, "rm", image); out != line(first)+line(ours) {
		t.Errorf("it deletes %q, want %q", out, line(first)+line(ours))
	}
	for desc, gone := range map[*ocispec.Descriptor]bool{&first: true, &ours: true, &other: false, &theirs: false} {
		if _, err := repo.Resolve(t.Context(), desc.Digest.String()); errors.Is(err, errdef.ErrNotFound) != gone {
			t.Errorf("%s: %v", desc.Digest, err)
		}
	}
}

func TestMisusedRmIsExplained(t *testing.T) {
	for _, args := range [][]string{{}, {"--keep-profiles", "127.0.0.1:1/a"}, {"127.0.0.1:1/a", "127.0.0.1:1/b"}, {"oci:a"}, {"dir:a"}, {"A B"}} {
		if status, _, stderr := pagein(t, append([]string{"pagein", "rm"}, args...)...); status != exitUsage {
			t.Errorf("%q: status %d: %s", args, status, stderr)
		}
	}
}
