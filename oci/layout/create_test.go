package layout

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

func prepare(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// isThere reports whether a path exists.
func isThere(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestALayoutIsMadeWhenSomethingIsStored(t *testing.T) {
	ctx, top := context.Background(), filepath.Join(t.TempDir(), "a")
	s := prepare(t, filepath.Join(top, "layout"))
	if _, err := s.Resolve(ctx, "v1"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("resolve: %v", err)
	}
	if _, err := s.Only(); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("only: %v", err)
	}
	if ok, err := s.Exists(ctx, content.NewDescriptorFromBytes("", []byte("x"))); ok || err != nil {
		t.Errorf("exists: %v, %v", ok, err)
	}
	if isThere(t, top) {
		t.Error("the directory is made before anything is stored")
	}
	desc := pushManifest(t, s, 1)
	if err := s.Tag(ctx, desc, "v1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(); err != nil {
		t.Error(err)
	}
	again, err := Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Resolve(ctx, "v1"); err != nil || got.Digest != desc.Digest {
		t.Errorf("%v, %v", got, err)
	}
}

func TestALayoutThatCannotBeMadeIsRefusedAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "file", "file/layout", "file/a/layout"} {
		if _, err := Prepare(filepath.Join(dir, path)); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%q: error is %v", path, err)
		}
	}
}

func TestDiscardTakesBackWhatWasMadeAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, dir string) // before the layout is made
		after  func(t *testing.T, dir string) // after something was pushed
		stays  string                         // what must be there in the end, below the directory
	}{
		"nothing but ours":    {},
		"the empty directory": {before: func(t *testing.T, dir string) { mkdir(t, filepath.Join(dir, "a/layout")) }, stays: "a/layout"},
		"a layout that was there": {before: func(t *testing.T, dir string) {
			if _, err := Create(filepath.Join(dir, "a/layout")); err != nil {
				t.Fatal(err)
			}
		}, stays: "a/layout/oci-layout"},
		"what others tagged": {after: func(t *testing.T, dir string) {
			other, err := Create(filepath.Join(dir, "a/layout"))
			if err != nil {
				t.Fatal(err)
			}
			if err := other.Tag(context.Background(), pushManifest(t, other, 2), "v2"); err != nil {
				t.Fatal(err)
			}
		}, stays: "a/layout/oci-layout"},
		"what others begin to use": {after: func(t *testing.T, dir string) {
			other, err := Create(filepath.Join(dir, "a/layout"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Discard() })
		}, stays: "a/layout/oci-layout"},
		"blobs of others": {after: func(t *testing.T, dir string) {
			other := &Store{dir: filepath.Join(dir, "a/layout")} // a program that knows no locks
			pushManifest(t, other, 2)
		}, stays: "a/layout/oci-layout"},
		"other files beside it": {after: func(t *testing.T, dir string) { mkdir(t, filepath.Join(dir, "a/other")) }, stays: "a/other"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.before != nil {
				c.before(t, dir)
			}
			s := prepare(t, filepath.Join(dir, "a/layout"))
			pushManifest(t, s, 1)
			if c.after != nil {
				c.after(t, dir)
			}
			if err := s.Discard(); err != nil {
				t.Fatal(err)
			}
			if c.stays != "" && !isThere(t, filepath.Join(dir, c.stays)) {
				t.Errorf("%s is gone", c.stays)
			}
			if c.stays == "" && isThere(t, filepath.Join(dir, "a")) {
				t.Error("the directory is left behind")
			}
			if c.stays == "a/layout" || c.stays == "a/other" {
				if isThere(t, filepath.Join(dir, "a/layout/oci-layout")) || isThere(t, filepath.Join(dir, "a/layout/blobs")) {
					t.Error("the layout is left behind")
				}
			}
		})
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestHashedBytesAreStoredIfTheirNumberIsRight(t *testing.T) {
	ctx, s := context.Background(), newStore(t)
	desc := content.NewDescriptorFromBytes("text/plain", []byte("right"))
	for name, b := range map[string]string{"shorter": "righ", "longer": "right!"} {
		if err := s.PushHashed(ctx, desc, strings.NewReader(b)); err == nil {
			t.Errorf("%s bytes are stored", name)
		}
	}
	if err := s.PushHashed(ctx, desc, strings.NewReader("right")); err != nil {
		t.Fatal(err)
	}
	if err := s.PushHashed(ctx, desc, nil); !errors.Is(err, errdef.ErrAlreadyExists) {
		t.Errorf("second push: %v", err)
	}
}
