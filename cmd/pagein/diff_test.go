package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/view"
)

func TestDiffTellsLikeDiff(t *testing.T) {
	require.Root(t)
	a := oddTree(t)
	b := t.TempDir()
	if out, err := exec.Command(require.Tool(t, "cp"), "-a", a+"/.", b).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	refs := []string{"dir:" + a, artifactOf(t, a), imageOf(t, a)}
	for _, x := range refs {
		for _, y := range append(refs, "dir:"+b) {
			if out := succeeds(t, "diff", x, y); out != "" {
				t.Errorf("%s and %s: %s", x, y, out)
			}
		}
	}

	for _, change := range []func() error{
		func() error { return os.Remove(filepath.Join(b, "pipe")) },
		func() error { return os.WriteFile(filepath.Join(b, "added"), nil, 0o644) },
		func() error { return os.Chmod(filepath.Join(b, "etc/group"), 0o600) },
		func() error { return os.Remove(filepath.Join(b, "loop")) },
		func() error { return os.Symlink("pool", filepath.Join(b, "loop")) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
	}
	const want = `+ added (file)
! etc/group: mode 0644 -> 0600
! loop: target "loop" -> "pool"
- pipe (pipe)
`
	for _, x := range refs {
		status, said := fails(t, "diff", "--ignore", "mtime", x, "dir:"+b)
		if status != exitDifferent || said != want {
			t.Errorf("%s: status %d: %s", x, status, said)
		}
	}
	_, said := fails(t, "diff", "--json", "--ignore", "mtime", refs[1], "dir:"+b)
	var list []jsonDifference
	if err := json.Unmarshal([]byte(said), &list); err != nil || len(list) != 4 || list[1].Attrs[0] != (jsonAttribute{"mode", "0644", "0600"}) {
		t.Errorf("%+v: %v", list, err)
	}
	if status, said := fails(t, "diff", refs[0], "dir:"+a+"/none"); status != exitTrouble || !strings.Contains(said, a+"/none") {
		t.Errorf("status %d: %s", status, said)
	}
}

func TestDiffReportsWhatItCannotRead(t *testing.T) {
	dir := convertible(t)
	whole, broken := artifactOf(t, dir), artifactOf(t, dir)
	if err := os.Truncate(parts(t, broken)["object"], 1); err != nil {
		t.Fatal(err)
	}
	if out := succeeds(t, "diff", whole, broken); out != "" {
		t.Errorf("equal blobs are read: %s", out)
	}
	status, said := fails(t, "diff", broken, "dir:"+dir)
	if status != exitTrouble || !strings.Contains(said, "file: first tree: ") || !strings.Contains(said, "wrong size") {
		t.Errorf("status %d: %s", status, said)
	}
}

func TestDiffUnpacksTarsAndLayouts(t *testing.T) {
	dir := convertible(t)
	tar := filepath.Join(t.TempDir(), "x.tar")
	if out, err := exec.Command(require.Tool(t, "tar"), "-c", "--format=pax", "-f", tar, "-C", dir, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ref := "oci:" + filepath.Join(t.TempDir(), "layout") + ":image"
	createLayout(t, ref)
	pushTestImage(t, ref, dir)
	ours, temp := artifactOf(t, dir), t.TempDir()
	t.Setenv("TMPDIR", temp)
	if out := succeeds(t, "diff", "tar:"+tar, "dir:"+dir); out != "" {
		t.Error(out)
	}
	if out := succeeds(t, "diff", ref, ours); out != "" {
		t.Error(out)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

func TestDiffReadsStandardInputOnce(t *testing.T) {
	if status, said := fails(t, "diff", "tar:-", "tar:-"); status != exitUsage || !strings.Contains(said, "only once") {
		t.Errorf("status %d, %s", status, said)
	}
}

// TestTemporaryFilesAreNotInTheSource has both in the same directory. What has no name there is not left behind by a killed program either.
func TestTemporaryFilesAreNotInTheSource(t *testing.T) {
	dir := convertible(t)
	if got := succeeds(t, "diff", "--temp-dir", dir, "dir:"+dir, "dir:"+dir); got != "" {
		t.Error(got)
	}
}

func TestDevicesThatAnArtifactLacksAreNoBlob(t *testing.T) {
	with := func(ids ...string) *peek {
		a := &artifact.Artifact{}
		for _, id := range ids {
			a.Blobs = append(a.Blobs, artifact.Blob{ID: id})
		}
		return &peek{view: &view.View{Artifact: a}}
	}
	same := sameBlob(with("x", "y"), with("y"))
	for devices, want := range map[[2]uint16]bool{{2, 1}: true, {1, 1}: false, {3, 1}: false, {2, 2}: false, {0, 1}: false, {2, 0}: false} {
		if got := same(devices[0], devices[1]); got != want {
			t.Errorf("%v: %v, want %v", devices, got, want)
		}
	}
	if sameBlob(with("x"), &peek{}) != nil {
		t.Error("an image's devices are taken for blobs")
	}
}
