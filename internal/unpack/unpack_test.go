package unpack_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/internal/unpack"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/view"
)

// plain makes a plain image of a source and opens it.
func plain(t *testing.T, source mkfs.Source) *erofs.FS {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if _, err := mkfs.WriteImage(t.Context(), path, source, mkfs.ImageOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

func fromDir(dir string) mkfs.Source {
	return func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) error { return t.AddDir(ctx, dir, sink) }
}

// converted makes an artifact of a directory and opens it.
func converted(t *testing.T, dir string) *view.View {
	t.Helper()
	path := filepath.Join(t.TempDir(), "layout")
	store, err := layout.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := convert.Dir(t.Context(), dir, store, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ref := oci.Ref{Kind: oci.Layout, Path: path, Digest: r.Descriptor.Digest}
	place := artifact.Place{Layout: store}
	a, err := place.Load(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	v, err := view.Open(t.Context(), place, a, view.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// notes collects what could not be kept.
func notes(list *[]string) func(string) {
	return func(s string) { *list = append(*list, s) }
}

func TestDirectoryIsTheSourceAgain(t *testing.T) {
	require.Root(t)
	for seed := range int64(2) {
		src := t.TempDir()
		treetest.Random(t, src, seed)
		v := converted(t, src)
		tree, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		for name, fsys := range map[string]*erofs.FS{"artifact": tree, "plain image": plain(t, fromDir(src))} {
			var lost []string
			o := unpack.Options{Note: notes(&lost)}
			if fsys == tree {
				o.Zero = v.Zero
			}
			out := filepath.Join(t.TempDir(), "out")
			stats, err := unpack.Dir(t.Context(), fsys, out, o)
			if err != nil {
				t.Fatal(err)
			}
			if stats.Lost > 0 || len(lost) > 0 {
				t.Errorf("seed %d, %s: %d lost: %q", seed, name, stats.Lost, lost)
			}
			treetest.Compare(t, src, out)
		}
	}
}

func TestTarIsTheSourceAgain(t *testing.T) {
	require.Root(t)
	require.Tool(t, "tar")
	for seed := range int64(2) {
		src := t.TempDir()
		treetest.Random(t, src, seed)
		v := converted(t, src)
		tree, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		var out, again bytes.Buffer
		if _, err := unpack.Tar(t.Context(), tree, &out, unpack.Options{Zero: v.Zero}); err != nil {
			t.Fatal(err)
		}
		if _, err := unpack.Tar(t.Context(), tree, &again, unpack.Options{Zero: v.Zero}); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
			t.Errorf("seed %d: the same tree gives other bytes: %v", seed, err)
		}

		// Read by GNU tar ...
		treetest.Compare(t, src, untar(t, out.Bytes()))

		// ... and by ourselves.
		read := func(ctx context.Context, t *mkfs.Tree, sink mkfs.Sink) error {
			return t.AddTar(ctx, bytes.NewReader(out.Bytes()), sink)
		}
		dir := filepath.Join(t.TempDir(), "ours")
		if _, err := unpack.Dir(t.Context(), plain(t, read), dir, unpack.Options{}); err != nil {
			t.Fatal(err)
		}
		treetest.Compare(t, src, dir)
	}
}

// allocated is how many bytes a file takes on disk.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestSparseFilesStaySparse(t *testing.T) {
	src := t.TempDir()
	const length, at = 3 << 30, 2 << 30
	f, err := os.Create(filepath.Join(src, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("data"), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(length); err != nil {
		t.Fatal(err)
	}
	v := converted(t, src)
	tree, err := v.Tree()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := unpack.Tar(t.Context(), tree, &out, unpack.Options{Zero: v.Zero}); err != nil || out.Len() > 1<<20 {
		t.Errorf("tar has %d bytes: %v", out.Len(), err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if stats, err := unpack.Dir(t.Context(), tree, dir, unpack.Options{Zero: v.Zero}); err != nil || stats.Bytes > 4096 {
		t.Errorf("%d bytes were written: %v", stats.Bytes, err)
	}
	for _, dir := range []string{dir, untar(t, out.Bytes())} {
		path := filepath.Join(dir, "sparse")
		g, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		b := make([]byte, 6)
		if _, err := g.ReadAt(b, at-1); err != nil || string(b) != "\x00data\x00" {
			t.Errorf("%s: %q: %v", path, b, err)
		}
		if info, err := g.Stat(); err != nil || info.Size() != length || allocated(t, path) > 1<<20 {
			t.Errorf("%s: %d bytes, %d on disk: %v", path, info.Size(), allocated(t, path), err)
		}
	}
}

func TestTargetMustBeNewOrEmpty(t *testing.T) {
	fsys := plain(t, fromDir(t.TempDir()))
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack.Dir(t.Context(), fsys, full, unpack.Options{}); err == nil || !strings.Contains(err.Error(), "precious") {
		t.Errorf("error is %v, want one that names what is in the way", err)
	}
	if _, err := unpack.Dir(t.Context(), fsys, filepath.Join(full, "precious"), unpack.Options{}); err == nil {
		t.Error("a file is taken for a directory")
	}
	if _, err := unpack.Dir(t.Context(), fsys, t.TempDir(), unpack.Options{}); err != nil {
		t.Error(err)
	}
}

func TestNobodyElseLooksIntoAnUnfinishedTarget(t *testing.T) {
	src, out := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{src, out} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mode := func() os.FileMode {
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	meanwhile := os.FileMode(0)
	_, err := unpack.Dir(t.Context(), plain(t, fromDir(src)), out, unpack.Options{Progress: func(unpack.Stats) { meanwhile = mode() }})
	if err != nil || meanwhile != 0o700 || mode() != 0o755 {
		t.Errorf("it has mode %o meanwhile and %o in the end: %v", meanwhile, mode(), err)
	}
}

func TestNothingIsInheritedFromWhereTheTargetLies(t *testing.T) {
	require.Root(t)
	parent, src := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "file"), []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(src, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	// u::rwx,u:7:rwx,g::rwx,m::rwx,o::rwx
	acl := []byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\x07\x00\x00\x00\x04\x00\x07\x00\xff\xff\xff\xff" +
		"\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x07\x00\xff\xff\xff\xff")
	if err := unix.Setxattr(parent, "system.posix_acl_default", acl, 0); err != nil {
		t.Skipf("missing: a file system with ACLs: %v", err)
	}
	if err := os.Chown(parent, 0, 1234); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(parent, 0o2777|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(parent, "out")
	if _, err := unpack.Dir(t.Context(), plain(t, fromDir(src)), out, unpack.Options{}); err != nil {
		t.Fatal(err)
	}
	treetest.Compare(t, src, out)
}

// untar lets GNU tar unpack a stream.
func untar(t *testing.T, b []byte) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(require.Tool(t, "tar"), "-x", "-p", "--warning=no-timestamp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-C", dir)
	cmd.Stdin = bytes.NewReader(b)
	if msg, err := cmd.CombinedOutput(); err != nil || len(msg) > 0 {
		t.Fatalf("tar says %s: %v", msg, err)
	}
	return dir
}
