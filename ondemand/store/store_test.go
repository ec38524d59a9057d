package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/atomicfile"
)

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func digestOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// writes returns a fetch function that writes s and then returns err.
func writes(s string, err error) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, werr := io.WriteString(w, s)
		return errors.Join(werr, err)
	}
}

func TestAStoreHasOneOwner(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if _, err := Open(root); !errors.Is(err, ErrOwned) {
		t.Errorf("second owner: got %v, want %v", err, ErrOwned)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, root)
}

func TestAnUnknownLayoutIsLeftAlone(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "version"), []byte("pagein store 99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root); err == nil || !strings.Contains(err.Error(), "pagein store 99") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyWholeAndRightFilesAreKept(t *testing.T) {
	s := open(t, t.TempDir())
	const want = "metadata"
	id := digestOf(want)
	broken := errors.New("connection reset")
	for _, c := range []struct {
		name  string
		fetch func(context.Context, io.Writer) error
	}{
		{"interrupted", writes("meta", broken)},
		{"short", writes("meta", nil)},
		{"other bytes", writes("METADATA", nil)},
	} {
		if _, err := s.Meta(t.Context(), id, c.fetch); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
		if left, _ := filepath.Glob(s.path("meta", "*")); len(left) != 0 {
			t.Errorf("%s: left %v behind", c.name, left)
		}
	}
	if n, err := s.Meta(t.Context(), id, writes(want, nil)); err != nil || n != int64(len(want)) {
		t.Fatalf("got %d, %v", n, err)
	}
	if _, err := s.Meta(t.Context(), id, writes("", broken)); err != nil {
		t.Errorf("fetched although it is there: %v", err)
	}
	// What has gone bad on the disk is fetched again.
	if err := os.WriteFile(s.MetaPath(id), []byte("meta-ata"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Meta(t.Context(), id, writes(want, nil)); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(s.MetaPath(id)); err != nil || string(b) != want {
		t.Errorf("got %q, %v", b, err)
	}
	for _, bad := range []string{"", "../../etc/passwd", strings.Repeat("g", 64), id[:63]} {
		if _, err := s.Meta(t.Context(), bad, writes(want, nil)); err == nil {
			t.Errorf("digest %q was accepted", bad)
		}
	}
}

func TestLeftoversOfACrashAreSwept(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	left := []string{s.path("meta", atomicfile.Prefix+"123"), s.path("blobs", ".probe-123")}
	kept := s.BlobPath(digestOf("blob"))
	for _, f := range append(left, kept) {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, root)
	for _, f := range left {
		if _, err := os.Stat(f); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v", f, err)
		}
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

// TestARootTooLongToMountFromIsRefused: fsconfig(2) takes 255 bytes, and would refuse only when somebody mounts.
func TestARootTooLongToMountFromIsRefused(t *testing.T) {
	root := t.TempDir() + "/"
	longest := root + strings.Repeat("r", 254-len(open(t, root).MetaPath(digestOf(""))))
	s := open(t, longest)
	for _, p := range []string{s.MetaPath(digestOf("")), s.BlobPath(digestOf(""))} {
		if len(p) > 255 {
			t.Errorf("the kernel cannot be told of %s", p)
		}
	}
	if len(s.MetaPath(digestOf(""))) != 255 {
		t.Errorf("a longer root would do too: %d bytes", len(s.MetaPath(digestOf(""))))
	}
	if _, err := Open(longest + "r"); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(longest + "r"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the refused root: %v", err)
	}
}

func TestStateComesBack(t *testing.T) {
	s := open(t, t.TempDir())
	var got []string
	if err := s.LoadState("mounts", &got); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing saved: got %v", err)
	}
	want := []string{"a", "b"}
	if err := s.SaveState("mounts", want); err != nil {
		t.Fatal(err)
	}
	if err := s.LoadState("mounts", &got); err != nil || len(got) != 2 || got[1] != "b" {
		t.Errorf("got %v, %v", got, err)
	}
}
