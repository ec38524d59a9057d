package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCopyMovesDataIntoADirectoryAndBack converts, moves the data out of the layout, reads it there, and brings it back.
func TestCopyMovesDataIntoADirectoryAndBack(t *testing.T) {
	dir := t.TempDir()
	tree, storage := filepath.Join(dir, "tree"), filepath.Join(dir, "storage")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("what is in the file\n", 10_000)
	if err := os.WriteFile(filepath.Join(tree, "file"), []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte("[[storage]]\nurl = 'file://"+storage+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) string {
		t.Helper()
		var stdout, stderr strings.Builder
		if status := run(t.Context(), append([]string{"pagein", "--config", config}, args...), &stdout, &stderr); status != exitSuccess {
			t.Fatalf("pagein %s: status %d: %s", strings.Join(args, " "), status, stderr.String())
		}
		return stdout.String()
	}
	ref := func(name string) string { return "oci:" + filepath.Join(dir, name) + ":1" }
	blobs := func(name string) int {
		entries, err := os.ReadDir(filepath.Join(dir, name, "blobs/sha256"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	must("convert", "--quiet", "dir:"+tree, ref("plain"))
	var summary copySummary
	if err := json.Unmarshal([]byte(must("copy", "--json", "--attach", "file://"+storage, ref("plain"), ref("attached"))), &summary); err != nil || summary.Attached == 0 {
		t.Errorf("%+v, %v", summary, err)
	}
	must("copy", "--quiet", "--keep-data", ref("attached"), ref("back"))
	if out := must("inspect", ref("attached")); !strings.Contains(out, "at file://"+storage+"/sha256-") {
		t.Errorf("inspect says nothing of where the data is:\n%s", out)
	}
	if blobs("attached") != blobs("plain")-1 || blobs("back") != blobs("plain") {
		t.Errorf("there are %d blobs, %d after the data moved out, and %d after it came back", blobs("plain"), blobs("attached"), blobs("back"))
	}
	for _, name := range []string{"plain", "attached", "back"} {
		if got := must("cat", ref(name), "/file"); got != want {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
		must("check", ref(name))
	}
	if out := must("copy", ref("plain"), ref("same")); !strings.Contains(out, filepath.Join(dir, "same")+":1@sha256:") || !strings.Contains(out, "copied") {
		t.Errorf("it says %q", out)
	}
}

func TestMisusedCopyIsExplained(t *testing.T) {
	for _, args := range [][]string{
		{}, {"oci:a"}, {"oci:a", "oci:b", "oci:c"}, {"dir:/tmp", "oci:b"}, {"oci:a", "tar:b"}, {"--attach", "https://example.com", "oci:a", "oci:b"}, {"--platform", "x/y/z/w", "oci:a", "oci:b"},
	} {
		var stdout, stderr strings.Builder
		if status := run(t.Context(), append([]string{"pagein", "copy"}, args...), &stdout, &stderr); status != exitUsage || !strings.Contains(stderr.String(), "pagein copy --help") {
			t.Errorf("%q: status %d: %s", args, status, stderr.String())
		}
	}
}
