package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/profile"
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
		{repo + ":lazy", "oci:" + filepath.Join(t.TempDir(), "x"), "it is an artifact of pagein already"},
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
		"":                                   "want SRC and DST",
		"a b c":                              "want SRC and DST",
		"dir:/x":                             "DST is missing",
		"oci:/x":                             "DST is missing",
		"dir:/x dir:/y":                      "must be oci:DIR",
		"oci:x:a oci:x@sha256:" + zeros:      "names a digest",
		"--platform amd64 localhost/a oci:x": "such as linux/amd64",
		"http://x/y oci:z":                   "URL",
		"dir:/x oci:y --dict dir:/z":         "must be an artifact",
		"dir:/x oci:y --dict":                "the value of --dict is missing",
		"dir:/x oci:y --level most":          "most",
		"dir:/x oci:y --order size":          "choose dir or tar",
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

func TestAFailedConversionLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	cut := filepath.Join(dir, "cut.tar")
	if err := os.WriteFile(cut, bytes.Repeat([]byte("no tar "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"tar:" + cut, "oci:" + dir + "/a/out"},
		{"dir:" + dir, "oci:" + dir + "/a/out", "--dict", "oci:" + dir + "/none"},
	} {
		status, _, stderr := pagein(t, append([]string{"pagein", "convert"}, args...)...)
		if status != exitFailure || stderr == "" {
			t.Errorf("%q: status %d, %s", args, status, stderr)
		}
		if _, err := os.Stat(dir + "/a"); err == nil {
			t.Errorf("%q: the destination was made", args)
		}
	}
}

func TestConvertBorrowsFromADictionary(t *testing.T) {
	source, layout := convertible(t), filepath.Join(t.TempDir(), "layout")
	first := convertJSON(t, "dir:"+source, "oci:"+layout+":v1")
	if err := os.WriteFile(filepath.Join(source, "new"), bytes.Repeat([]byte("new "), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	second := convertJSON(t, "dir:"+source, "oci:"+layout+":v2", "--dict", "oci:"+layout+":v1")
	if second.Borrowed != 400_000 || second.Unique != 20_000 || second.Borrowing != 1 || second.Blobs != 2 || second.Copied+second.Mounted != 0 ||
		second.Data != first.Data+20_000 || len(second.Layers) != 1 || second.Layers[0].Borrowed != second.Borrowed {
		t.Errorf("summary is %+v", second)
	}
	status, stdout, stderr := pagein(t, "pagein", "convert", "--dict", "oci:"+layout+":v2", "dir:"+source, "oci:"+layout+"2:v3")
	if status != exitSuccess || !strings.Contains(stdout, "borrowed: 410 KiB in 2 blobs, of which 0 B were mounted and ") {
		t.Errorf("status %d\n%s%s", status, stdout, stderr)
	}
}

func TestConvertLaysDataOutAsItIsTold(t *testing.T) {
	source, dir := t.TempDir(), t.TempDir()
	for _, name := range []string{"a/1", "a/2", "b/1", "c"} {
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte(name), 2000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	touched := filepath.Join(dir, "profile")
	f, err := os.Create(touched)
	if err != nil {
		t.Fatal(err)
	}
	p := profile.Profile{Entries: []profile.Entry{{Path: "/c", Len: 4096}, {Path: "/b/1", Len: 4096}}}
	if err := errors.Join(p.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{}
	for i, args := range [][]string{{}, {"--order", "dir"}, {"--profile", touched}, {"--level=best"}, {"--level", "default"}} {
		made[convertJSON(t, append(args, "dir:"+source, "oci:"+dir+"/l")...).Descriptor.Digest.String()] = true
		if want := []int{1, 1, 2, 3, 3}[i]; len(made) != want {
			t.Errorf("after %q there are %d artifacts, want %d", args, len(made), want)
		}
	}
	status, _, stderr := pagein(t, "pagein", "convert", "--profile", dir+"/none", "dir:"+source, "oci:"+dir+"/l")
	if status != exitFailure || !strings.Contains(stderr, dir+"/none") {
		t.Errorf("status %d, %s", status, stderr)
	}
}
