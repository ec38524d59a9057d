package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

func TestExportIsTheSourceAgain(t *testing.T) {
	require.Root(t)
	dir := oddTree(t)
	for _, ref := range []string{artifactOf(t, dir), imageOf(t, dir)} {
		out := filepath.Join(t.TempDir(), "out")
		if said := succeeds(t, "export", ref, out); !strings.Contains(said, "13 names") {
			t.Error(said)
		}
		treetest.Compare(t, dir, out)

		tar := filepath.Join(t.TempDir(), "out.tar")
		succeeds(t, "export", "--quiet", ref, "tar:"+tar)
		b, err := os.ReadFile(tar)
		if err != nil {
			t.Fatal(err)
		}
		if streamed := succeeds(t, "export", "--quiet", ref, "tar:-"); streamed != string(b) {
			t.Errorf("%d bytes come to standard output, %d into a file", len(streamed), len(b))
		}
		var summary exportSummary
		status, streamed, said := pagein(t, "pagein", "export", "--json", ref, "tar:-")
		if err := json.Unmarshal([]byte(said), &summary); err != nil || status != exitSuccess || streamed != string(b) || summary.Names != 13 {
			t.Errorf("status %d, %d bytes, summary %s: %v", status, len(streamed), said, err)
		}
		if out := succeeds(t, "diff", "tar:"+tar, "dir:"+dir); out != "" {
			t.Error(out)
		}
	}
}

func TestExportFailsAsRootIfSomethingIsLost(t *testing.T) {
	require.Root(t)
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	// No file system lets user attributes on symbolic links.
	link := &erofs.Inode{Mode: unix.S_IFLNK | 0o777, Target: "x", Xattrs: []erofs.Xattr{{Name: "user.x", Value: []byte("y")}}}
	_, err = erofs.Write(f, &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{{Name: "link", Inode: link}}}, erofs.WriteOptions{})
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	status, said := fails(t, "export", "erofs:"+path, filepath.Join(t.TempDir(), "out"))
	if status != exitFailure || !strings.Contains(said, "1 thing could not be kept") {
		t.Errorf("status %d: %s", status, said)
	}
}

func TestFailedExportLeavesNoTar(t *testing.T) {
	ref := artifactOf(t, convertible(t))
	if err := os.Truncate(parts(t, ref)["object"], 1); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	status, said := fails(t, "export", ref, "tar:"+dir+"/x.tar")
	if names, err := os.ReadDir(dir); status != exitFailure || err != nil || len(names) != 0 {
		t.Errorf("status %d: %s; left are %v", status, said, names)
	}
	if _, said := fails(t, "export", ref, dir); !strings.Contains(said, "incomplete") {
		t.Error(said)
	}
}

// TestExportWithoutRootSaysWhatIsLost runs the program as another user.
func TestExportWithoutRootSaysWhatIsLost(t *testing.T) {
	require.Root(t)
	bin := filepath.Join(t.TempDir(), "pagein")
	output(t, require.Tool(t, "cp"), program(t).Path, bin) // from where the go command keeps others out
	dir := oddTree(t)
	ref := artifactOf(t, dir)
	tmp := t.TempDir()
	const nobody = 65534
	if err := os.Chown(tmp, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bin, strings.TrimSuffix(strings.TrimPrefix(ref, "oci:"), ":v1")} {
		if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil { // t.TempDir keeps others out
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin, "export", ref, filepath.Join(tmp, "out"))
	cmd.Env = []string{asProgram + "=1", "HOME=" + tmp, "TMPDIR=" + tmp}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for _, want := range []string{"note: owners cannot be kept", "note: devices cannot be kept", `"device"`, "note: set-user-ID", ": 12 names"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("%q is not in %s", want, said)
		}
	}
	if b, err := os.ReadFile(filepath.Join(tmp, "out/etc/passwd")); err != nil || !strings.Contains(string(b), "lisa") {
		t.Errorf("%q: %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(tmp, "out/etc/deep/new\nline")); err != nil || info.Mode()&os.ModeSetuid != 0 {
		t.Errorf("a program is set-user-ID for somebody else: %v, %v", info.Mode(), err)
	}
}
