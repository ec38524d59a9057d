package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/oci/artifact"
)

// checkJSON runs check and returns its answer and exit status.
func checkJSON(t *testing.T, args ...string) (checkReport, int) {
	t.Helper()
	status, stdout, stderr := pagein(t, append([]string{"pagein", "check", "--json"}, args...)...)
	var r checkReport
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%q: status %d, %v: %s%s", args, status, err, stdout, stderr)
	}
	if r.OK != (status == exitSuccess) || r.OK != (stderr == "") {
		t.Errorf("%q: status %d, %q, but the report is %+v", args, status, stderr, r)
	}
	return r, status
}

func TestCheckFindsNothingWrongWithWhatWeMake(t *testing.T) {
	require.Root(t)
	dir := t.TempDir()
	treetest.Random(t, dir, 1)
	for _, ref := range []string{artifactOf(t, dir), imageOf(t, dir)} {
		r, _ := checkJSON(t, ref, "--against", "dir:"+dir)
		if !r.OK || r.Problems != 0 || r.Differences != 0 || r.Tree == nil || r.Tree.Xattrs == 0 {
			t.Errorf("%s: %+v", ref, r)
		}
		if a := r.Artifact; strings.HasPrefix(ref, "oci:") && (a == nil || a.Frames == 0 || a.Objects != 1 || a.UnusedBytes != 0) {
			t.Errorf("%s: %+v", ref, a)
		}
		if text := succeeds(t, "check", ref); !strings.Contains(text, "is sound") {
			t.Errorf("check says %s", text)
		}
		if text := succeeds(t, "check", "--quiet", ref); text != "" {
			t.Errorf("check --quiet says %s", text)
		}
	}
}

func TestCheckAcceptsWhatMkfsErofsMakes(t *testing.T) {
	mkfs := require.Tool(t, "mkfs.erofs")
	dir := oddTree(t)
	for name, args := range map[string][]string{"plain": nil, "chunks": {"--chunksize=4096"}} {
		image := filepath.Join(t.TempDir(), "image")
		output(t, mkfs, append(args, "--quiet", image, dir)...)
		if r, _ := checkJSON(t, "erofs:"+image, "--against", "dir:"+dir, "--ignore", "xattr"); !r.OK {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// parts returns the files of the layout in which the parts of an artifact lie.
func parts(t *testing.T, ref string) map[string]string {
	t.Helper()
	dir := strings.TrimSuffix(strings.TrimPrefix(ref, "oci:"), ":v1")
	file := func(d digest.Digest) string { return filepath.Join(dir, "blobs/sha256", d.Encoded()) }
	read := func(path string, v any) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatal(err)
		}
	}
	var index ocispec.Index
	read(filepath.Join(dir, "index.json"), &index)
	found := map[string]string{"manifest": file(index.Manifests[0].Digest)}
	var m ocispec.Manifest
	read(found["manifest"], &m)
	found["config"] = file(m.Config.Digest)
	for _, l := range m.Layers {
		found[map[string]string{artifact.MediaTypeMeta: "meta", artifact.MediaTypeMap: "map", artifact.MediaTypeIndex: "index", artifact.MediaTypeObject: "object"}[l.MediaType]] = file(l.Digest)
	}
	return found
}

func TestCheckNamesWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	large := make([]byte, 700_000) // frames that do not compress: every byte counts
	rand.NewChaCha8([32]byte{7}).Read(large)
	for name, data := range map[string][]byte{"large": large, "small": []byte(strings.Repeat("s", 2000)), "tiny": []byte("inline")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ref := artifactOf(t, dir)
	for part, path := range parts(t, ref) {
		t.Run(part, func(t *testing.T) {
			sound, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(path, sound, 0o644)
			for what, damage := range map[string]func([]byte) []byte{
				"flipped": func(b []byte) []byte { b[len(b)/2] ^= 0x40; return b },
				"cut":     func(b []byte) []byte { return b[:len(b)-1] },
				"grown":   func(b []byte) []byte { return append(b, 0) },
				"missing": nil,
			} {
				if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				if damage != nil {
					if err := os.WriteFile(path, damage(append([]byte(nil), sound...)), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				r, status := checkJSON(t, ref)
				said, _ := json.Marshal(r.ProblemList)
				if part == "manifest" || part == "config" {
					if status != exitFailure || r.Problems != 1 || r.ProblemList[0].Part != "artifact" || !strings.Contains(string(said), part) || !strings.Contains(string(said), filepath.Base(path)) {
						t.Errorf("%s: status %d: %+v", what, status, r)
					}
					continue
				}
				if status != exitFailure || r.Problems == 0 || r.ProblemList[0].Part != part && r.ProblemList[0].Part != "frame" && part != "object" {
					t.Errorf("%s: %+v", what, r)
				}
				if !strings.Contains(string(said), filepath.Base(path)) && part != "index" {
					t.Errorf("%s: %q does not name the file", what, said)
				}
				if part == "object" && what == "flipped" {
					if len(r.ProblemList) != 2 || !strings.Contains(string(said), `"part":"frame"`) || !strings.Contains(string(said), `["/large"]`) {
						t.Errorf("%s: %s, want the object, the frame, and the file in it", what, said)
					}
				}
			}
		})
	}
	if r, _ := checkJSON(t, ref); !r.OK {
		t.Errorf("after repairing: %+v", r)
	}
}

func TestCheckTellsDamageFromMistakes(t *testing.T) {
	artifact := artifactOf(t, convertible(t))
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, status := checkJSON(t, "erofs:"+image); status != exitFailure || r.Problems != 1 || r.ProblemList[0].Part != "image" {
		t.Errorf("status %d: %+v", status, r)
	}
	for _, ref := range []string{artifact + "2", "oci:" + t.TempDir(), "erofs:" + image + "2", "erofs:" + t.TempDir()} {
		if status, stdout, stderr := pagein(t, "pagein", "check", "--json", ref); status != exitFailure || stdout != "" || stderr == "" {
			t.Errorf("%s: status %d, %q, %q", ref, status, stdout, stderr)
		}
	}
}

func TestCheckAgainstFindsWhatDiffers(t *testing.T) {
	dir := convertible(t)
	ref := artifactOf(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, status := checkJSON(t, ref, "--against", "dir:"+dir, "--ignore", "mtime")
	if status != exitFailure || r.Problems != 0 || r.Differences != 1 || r.DiffList[0].Path != "new" || r.DiffList[0].Kind != "removed" {
		t.Errorf("status %d: %+v", status, r)
	}
	if _, said := fails(t, "check", ref, "--against", "dir:"+dir, "--ignore", "mtime"); !strings.Contains(said, "- new (file)\n") || !strings.Contains(said, "1 difference from dir:"+dir) {
		t.Error(said)
	}
}
