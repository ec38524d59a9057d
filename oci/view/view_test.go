package view_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/registry/registrytest"
	"github.com/pagein/pagein/oci/view"
)

// sourceTree has files that lie inline, share a frame, and fill many frames, with contents that depend on their name.
func sourceTree(t *testing.T) (dir string, contents map[string][]byte) {
	t.Helper()
	dir, contents = t.TempDir(), map[string][]byte{}
	for name, size := range map[string]int{"tiny": 100, "small1": 5000, "small2": 6000, "large": 3 << 20, "larger": 5<<20 + 77} {
		b := make([]byte, size)
		rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%032s", name)))).Read(b)
		contents[name] = b
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, contents
}

// server is a registry that counts and can misbehave.
type server struct {
	http.Handler
	mu     sync.Mutex
	blobs  int                              // ranged requests
	refuse func(w http.ResponseWriter) bool // nil, or answers a ranged request itself
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	f := s.refuse
	ranged := r.Header.Get("Range") != ""
	if ranged {
		s.blobs++
	}
	s.mu.Unlock()
	if ranged && f != nil && f(w) {
		return
	}
	s.Handler.ServeHTTP(w, r)
}

func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs
}

// opened converts a directory into a registry and opens the artifact.
func opened(t *testing.T, dir string, o view.Options) (*view.View, *server) {
	t.Helper()
	return openedFor(t.Context(), t, dir, o)
}

// openedFor has the view end with ctx.
func openedFor(ctx context.Context, t *testing.T, dir string, o view.Options) (*view.View, *server) {
	t.Helper()
	s := &server{Handler: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	client := registrytest.Client(t)
	ref, err := oci.ParseRef(strings.TrimPrefix(srv.URL, "http://") + "/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	place, err := artifact.Open(client, ref)
	if err != nil {
		t.Fatal(err)
	}
	r, err := convert.Dir(t.Context(), dir, place.Target(), convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := place.Target().Tag(t.Context(), r.Descriptor, "v1"); err != nil {
		t.Fatal(err)
	}
	place, a, err := artifact.Find(t.Context(), client, ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := view.Open(ctx, place, a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v, s
}

func treeOf(t *testing.T, v *view.View) *erofs.FS {
	t.Helper()
	tree, err := v.Tree()
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestOnlyWhatIsReadIsFetched(t *testing.T) {
	dir, contents := sourceTree(t)
	v, s := opened(t, dir, view.Options{})
	tree := treeOf(t, v)
	names, err := fs.ReadDir(tree, ".")
	if err != nil || len(names) != len(contents) {
		t.Fatalf("%v: %v", names, err)
	}
	read := func(name string, most int) {
		t.Helper()
		before := s.requests()
		if b, err := fs.ReadFile(tree, name); err != nil || !bytes.Equal(b, contents[name]) {
			t.Errorf("%s: %d bytes: %v", name, len(b), err)
		}
		if n := s.requests() - before; n > most {
			t.Errorf("%s takes %d requests, want at most %d", name, n, most)
		}
	}
	read("tiny", 0)
	read("small1", 1)
	read("small2", 0) // in the same frame
	read("larger", 6) // fs.ReadFile reads in small pieces: it is reading ahead that counts
	read("larger", 0) // still there
}

func TestFewBytesOfMemoryAndManyReadersGiveTheSameBytes(t *testing.T) {
	dir, contents := sourceTree(t)
	v, _ := opened(t, dir, view.Options{Cache: 300 << 10})
	tree := treeOf(t, v)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for name, want := range contents {
				h, err := tree.Find(name, false)
				if err != nil {
					t.Error(err)
					return
				}
				for range 20 {
					off := rng.IntN(len(want))
					b := make([]byte, rng.IntN(min(len(want)-off, 600_000))+1)
					if _, err := h.ReadAt(b, int64(off)); err != nil || !bytes.Equal(b, want[off:off+len(b)]) {
						t.Errorf("%s at %d: %v", name, off, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestPassingTroubleIsOvercome(t *testing.T) {
	dir, contents := sourceTree(t)
	v, s := opened(t, dir, view.Options{})
	tree := treeOf(t, v)
	left := 2
	s.refuse = func(w http.ResponseWriter) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if left--; left < 0 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if b, err := fs.ReadFile(tree, "small1"); err != nil || !bytes.Equal(b, contents["small1"]) {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}

func TestLastingTroubleIsAnErrorThatNamesTheBlob(t *testing.T) {
	dir, _ := sourceTree(t)
	v, s := opened(t, dir, view.Options{})
	tree := treeOf(t, v)
	s.refuse = func(w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusNotFound)
		return true
	}
	_, err := fs.ReadFile(tree, "large")
	if err == nil || !strings.Contains(err.Error(), v.Artifact.Blobs[0].ID) || !strings.Contains(err.Error(), "large") {
		t.Errorf("error is %v", err)
	}
	s.refuse = nil
	if _, err := fs.ReadFile(tree, "large"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWrongBytesAreNeverReturned(t *testing.T) {
	dir, _ := sourceTree(t)
	v, s := opened(t, dir, view.Options{})
	tree := treeOf(t, v)
	inner := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			inner.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		inner.ServeHTTP(rec, r)
		b := rec.Body.Bytes()
		b[len(b)/2] ^= 1
		for k, h := range rec.Header() {
			w.Header()[k] = h
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(b)
	})
	if b, err := fs.ReadFile(tree, "small1"); !errors.Is(err, blob.ErrCorrupt) || len(b) > 0 {
		t.Errorf("%d bytes: %v", len(b), err)
	}
}

func TestVerifyCountsWhatThereIs(t *testing.T) {
	dir, _ := sourceTree(t)
	v, _ := opened(t, dir, view.Options{})
	last, total := int64(0), int64(0)
	got, err := v.Verify(view.VerifyOptions{
		Problem: func(p view.Problem) { t.Errorf("problem: %+v", p) },
		Progress: func(done, of int64) {
			if done < last || done > of {
				t.Errorf("progress goes from %d to %d of %d", last, done, of)
			}
			last, total = done, of
		},
	})
	m, mapErr := v.Map(0)
	if err != nil || mapErr != nil {
		t.Fatal(err, mapErr)
	}
	if got.Objects != 1 || got.ObjectBytes != m.SourceSize(0) || got.UnusedBytes != 0 || got.Frames != m.Frames() || got.FrameBytes != m.Size() {
		t.Errorf("%+v of a blob of %d bytes in %d frames", got, m.Size(), m.Frames())
	}
	if last != total || total != m.SourceSize(0) {
		t.Errorf("progress ends with %d of %d", last, total)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	dir, _ := sourceTree(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	errStop := errors.New("interrupted")
	v, s := openedFor(ctx, t, dir, view.Options{})
	s.refuse = func(http.ResponseWriter) bool { cancel(errStop); return false }
	if _, err := v.Verify(view.VerifyOptions{Problem: func(p view.Problem) { t.Errorf("problem: %+v", p) }}); !errors.Is(err, errStop) {
		t.Errorf("error is %v", err)
	}
}

func TestMapsTakeNoOpenFiles(t *testing.T) {
	dir, _ := sourceTree(t)
	temp := t.TempDir()
	v, _ := opened(t, dir, view.Options{TempDir: temp})
	if m, err := v.Map(0); err != nil || m.Frames() == 0 {
		t.Fatal(err)
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, temp) {
			t.Errorf("%s is %s", fd, target)
		}
	}
}

// TestTheTreeWantsTheBlobsOfItsArtifact has an artifact that lists another blob than the metadata image names.
func TestTheTreeWantsTheBlobsOfItsArtifact(t *testing.T) {
	dir, _ := sourceTree(t)
	v, _ := opened(t, dir, view.Options{})
	v.Artifact.Blobs[0].ID = strings.Repeat("0", 64)
	if _, err := v.Tree(); err == nil || !strings.Contains(err.Error(), "device 1") {
		t.Errorf("error is %v", err)
	}
}
