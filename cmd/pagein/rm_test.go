package main

import (
	"errors"
	"strings"
	"testing"

	"oras.land/oras-go/v2/errdef"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci/artifact"
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

func TestMisusedRmIsExplained(t *testing.T) {
	for _, args := range [][]string{{}, {"127.0.0.1:1/a", "127.0.0.1:1/b"}, {"oci:a"}, {"dir:a"}, {"A B"}} {
		if status, _, stderr := pagein(t, append([]string{"pagein", "rm"}, args...)...); status != exitUsage {
			t.Errorf("%q: status %d: %s", args, status, stderr)
		}
	}
}
