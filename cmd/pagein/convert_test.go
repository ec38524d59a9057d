package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pagein/pagein/oci/artifact"
)

// convertible is a directory with a file that compresses.
func convertible(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat("content ", 50_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// convertJSON converts and returns the summary.
func convertJSON(t *testing.T, args ...string) convertSummary {
	t.Helper()
	status, stdout, stderr := pagein(t, append([]string{"pagein", "convert", "--json"}, args...)...)
	if status != exitSuccess {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var s convertSummary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConvertSaysWhatItMade(t *testing.T) {
	dir, layout := convertible(t), filepath.Join(t.TempDir(), "layout")
	s := convertJSON(t, "dir:"+dir, "oci:"+layout+":v1")
	if s.Input != 400_000 || s.Stored == 0 || s.Stored > 10_000 || s.Sent != s.Stored || s.Blobs != 1 || s.Files != 1 ||
		s.Descriptor.ArtifactType != artifact.Type || !strings.HasPrefix(s.Reference, "oci:"+layout+":v1@sha256:") {
		t.Errorf("summary is %+v", s)
	}
	status, stdout, stderr := pagein(t, "pagein", "convert", "dir:"+dir, "oci:"+layout)
	if status != exitSuccess || stderr != "" || !strings.HasPrefix(stdout, "oci:"+layout+":latest@sha256:") ||
		!strings.Contains(stdout, "391 KiB in") || !strings.Contains(stdout, "0 B sent") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
	if status, stdout, stderr := pagein(t, "pagein", "convert", "--quiet", "dir:"+dir, "oci:"+layout+":v2"); status != 0 || stdout+stderr != "" {
		t.Errorf("status %d, printed %q although quiet", status, stdout+stderr)
	}
}

func TestConvertPutsAnArtifactBesideItsImageInARegistry(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(srv.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	repo := strings.TrimPrefix(srv.URL, "http://") + "/app"

	tagged := convertJSON(t, "dir:"+convertible(t), repo+":lazy")
	if !strings.HasPrefix(tagged.Reference, repo+":lazy@sha256:") {
		t.Errorf("reference is %s", tagged.Reference)
	}
	for _, c := range []struct{ src, dst, says string }{
		{repo + ":lazy", "oci:" + filepath.Join(t.TempDir(), "x"), "it is no image"},
		{repo + ":none", repo + ":x", "not found"},
	} {
		status, _, stderr := pagein(t, "pagein", "convert", c.src, c.dst)
		if status != exitFailure || !strings.Contains(stderr, c.says) || !strings.Contains(stderr, c.src) {
			t.Errorf("%s to %s: status %d, %s", c.src, c.dst, status, stderr)
		}
	}
}

func TestConvertRefusesWhatCannotBeMeant(t *testing.T) {
	zeros := strings.Repeat("0", 64)
	for args, says := range map[string]string{
		"":                                   "want the options, then SRC and DST",
		"a b c":                              "want the options, then SRC and DST",
		"dir:/x":                             "DST is missing",
		"oci:/x":                             "DST is missing",
		"dir:/x dir:/y":                      "must be oci:DIR",
		"oci:x:a oci:x@sha256:" + zeros:      "names a digest",
		"--platform amd64 localhost/a oci:x": "such as linux/amd64",
		"http://x/y oci:z":                   "URL",
	} {
		status, _, stderr := pagein(t, append([]string{"pagein", "convert"}, strings.Fields(args)...)...)
		if status != exitUsage || !strings.Contains(stderr, says) || !strings.Contains(stderr, "pagein convert --help") {
			t.Errorf("%q: status %d, %s", args, status, stderr)
		}
	}
}

func TestConvertOfAMissingSourceMakesNoDestination(t *testing.T) {
	dir := t.TempDir()
	for _, src := range []string{"oci:" + dir + "/none", "tar:" + dir + "/none", "dir:" + dir + "/none"} {
		status, _, stderr := pagein(t, "pagein", "convert", src, "oci:"+dir+"/out")
		if status != exitFailure || !strings.Contains(stderr, dir+"/none") {
			t.Errorf("%s: status %d, %s", src, status, stderr)
		}
		if _, err := os.Stat(dir + "/out"); err == nil {
			t.Errorf("%s: the destination was made", src)
		}
	}
}
