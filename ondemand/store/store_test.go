package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	if left, err := filepath.Glob(filepath.Join(root, "*")); err != nil || len(left) != 2 { // the version and the lock
		t.Errorf("it has become %v, %v", left, err)
	}
}

// TestAnEarlierLayoutIsMigrated: its records cannot be read any more and go, what is verified by itself stays, and nobody else may look.
func TestAnEarlierLayoutIsMigrated(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if _, err := s.Meta(t.Context(), digestOf("meta"), writes("meta", nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"version": layoutBefore, "blobs/x.present": "PAGEINPR", "meta/y.erofs.123.tmp": "half"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "blobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	s = open(t, root)
	for name, want := range map[string]bool{"blobs/x.present": false, "meta/y.erofs.123.tmp": false, "meta/" + digestOf("meta") + ".erofs": true} {
		if _, err := os.Stat(filepath.Join(root, name)); (err == nil) != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if version, err := os.ReadFile(s.path("version")); err != nil || string(version) != layoutVersion {
		t.Errorf("version is %q, %v", version, err)
	}
	if st, err := os.Stat(s.BlobDir()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode is %v, %v", st.Mode(), err)
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
	for _, want := range [][]string{{"a"}, {"a", "b"}} {
		if err := s.SaveState("mounts", want); err != nil {
			t.Fatal(err)
		}
		if err := s.LoadState("mounts", &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

// TestLostStateIsReadFromItsCopy removes the record, as a repair of the file system may. Who removes both has none.
func TestLostStateIsReadFromItsCopy(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.SaveState("mounts", "precious"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.statePath("mounts")); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := s.LoadState("mounts", &got); err != nil || got != "precious" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := s.CheckState(); !errors.Is(err, ErrDamaged) {
		t.Errorf("the check says %v", err)
	}
	if err := os.Remove(s.stateCopy("mounts")); err != nil {
		t.Fatal(err)
	}
	if err := s.LoadState("mounts", &got); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestDamagedStateIsReadFromItsCopy changes what a disk may change. Only when the copy is damaged, too, nobody knows.
func TestDamagedStateIsReadFromItsCopy(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(b []byte) []byte
	}{
		{"a byte", func(b []byte) []byte { b[4] ^= 1; return b }},
		{"the checksum", func(b []byte) []byte { b[len(b)-2] ^= 1; return b }},
		{"cut off", func(b []byte) []byte { return b[:5] }},
		{"emptied", func([]byte) []byte { return nil }},
		{"zeros", func(b []byte) []byte { clear(b); return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			if err := s.SaveState("mounts", "precious"); err != nil {
				t.Fatal(err)
			}
			if err := s.CheckState(); err != nil {
				t.Error(err)
			}
			for i, path := range []string{s.statePath("mounts"), s.stateCopy("mounts")} {
				b, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(path, c.damage(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				var got string
				err = s.LoadState("mounts", &got)
				if i == 0 && (err != nil || got != "precious") {
					t.Errorf("got %q, %v", got, err)
				} else if i == 1 && !errors.Is(err, ErrDamaged) {
					t.Errorf("with both damaged: got %q, %v", got, err)
				}
				if err := s.CheckState(); !errors.Is(err, ErrDamaged) {
					t.Errorf("the check says %v", err)
				}
			}
		})
	}
}
