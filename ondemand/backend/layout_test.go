package backend_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/backend/backendtest"
)

// layoutWith makes a layout that holds a blob.
func layoutWith(t *testing.T, content []byte) (dir string, d digest.Digest) {
	t.Helper()
	dir, d = t.TempDir(), digest.FromBytes(content)
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs/sha256", d.Encoded()), content, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, d
}

func TestLayoutConforms(t *testing.T) {
	dir := ""
	layout := func(t *testing.T, d digest.Digest, size int) backend.Object {
		o, err := backend.Layout(dir, d, int64(size))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	backendtest.Run(t, backendtest.Suite{
		Open: func(t *testing.T, content []byte) backend.Object {
			var d digest.Digest
			dir, d = layoutWith(t, content)
			return layout(t, d, len(content))
		},
		Missing: func(t *testing.T) backend.Object { return layout(t, digest.FromString("missing"), 1000) },
	})
}

func TestLayoutRefusesWhatIsNotTheBlob(t *testing.T) {
	dir, d := layoutWith(t, []byte("content"))
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	link, folder := digest.FromString("link"), digest.FromString("folder")
	if err := os.Symlink(outside, filepath.Join(dir, "blobs/sha256", link.Encoded())); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "blobs/sha256", folder.Encoded()), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		d    digest.Digest
		size int64
	}{
		"other size":     {d, 8},
		"missing":        {digest.FromString("missing"), 7},
		"directory":      {folder, 4096},
		"link outside":   {link, 7},
		"path as digest": {"sha256:../../../../etc/passwd", 7},
		"no digest":      {"", 7},
	} {
		o, err := backend.Layout(dir, c.d, c.size)
		if err == nil {
			_, err = o.Range(context.Background(), 0, min(c.size, 7))
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLayoutBlobThatGoesAwayFailsForGoodAndServesAgainWhenItIsBack(t *testing.T) {
	dir, d := layoutWith(t, []byte("content"))
	o, err := backend.Layout(dir, d, 7)
	if err != nil {
		t.Fatal(err)
	}
	moved := dir + ".away"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Range(context.Background(), 0, 7); !errors.Is(err, fs.ErrNotExist) || !backend.IsPermanent(err) {
		t.Errorf("error is %v, want a permanent one that says it is missing", err)
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := backendtest.Read(context.Background(), o, 0, 7); err != nil {
		t.Error(err)
	}
}

func TestLayoutBlobThatShrinksIsNoticed(t *testing.T) {
	dir, d := layoutWith(t, make([]byte, 10_000))
	o, err := backend.Layout(dir, d, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.Range(context.Background(), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := os.Truncate(filepath.Join(dir, "blobs/sha256", d.Encoded()), 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %v, want unexpected EOF", err)
	}
	if _, err := o.Range(context.Background(), 0, 10_000); err == nil || !backend.IsPermanent(err) {
		t.Errorf("error is %v, want a permanent one", err)
	}
}
