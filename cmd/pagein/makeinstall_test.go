package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// TestMakeUninstallRemovesWhatMakeInstallMade installs programs that are empty files, beside one of somebody else.
func TestMakeUninstallRemovesWhatMakeInstallMade(t *testing.T) {
	tree, dest := t.TempDir(), t.TempDir()
	for _, dir := range []string{"docs/man", "dist/systemd"} {
		if err := os.CopyFS(filepath.Join(tree, dir), os.DirFS(filepath.Join("../..", dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{tree + "/bin/pagein", tree + "/bin/pageind", tree + "/bin/pagein-keeper", dest + "/usr/bin/other"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	makefile, err := filepath.Abs("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	after := func(target string) (paths []string) {
		t.Helper()
		cmd := exec.Command(require.Tool(t, "make"), "-C", tree, "-f", makefile, target, "BUILD=:", "PREFIX=/usr", "DESTDIR="+dest) // #nosec G204 -- a test's own
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
		err := filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				paths = append(paths, path[len(dest):])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return paths
	}
	there := after("install")
	for _, want := range []string{"/usr/bin/pageind", "/usr/share/man/man8/pagein-install.8", "/usr/lib/systemd/system/pageind.service", "/sbin/mount.pagein"} {
		if !slices.Contains(there, want) {
			t.Errorf("%s is not installed, but %q", want, there)
		}
	}
	if left := after("uninstall"); !slices.Equal(left, []string{"/usr/bin/other"}) {
		t.Errorf("left is %q", left)
	}
}
