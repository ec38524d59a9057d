package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/internal/atomicfile"
)

var _ oras.Target = (*Store)(nil)

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "a", "layout"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pushManifest stores something that looks like a manifest.
func pushManifest(t testing.TB, s *Store, n int) ocispec.Descriptor {
	t.Helper()
	b := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"n":%d}`, ocispec.MediaTypeImageManifest, n)
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, b)
	if err := s.Push(context.Background(), desc, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestTaggedManifestIsFoundByTagAndDigest(t *testing.T) {
	ctx, s := context.Background(), newStore(t)
	one, two := pushManifest(t, s, 1), pushManifest(t, s, 2)
	for tag, desc := range map[string]ocispec.Descriptor{"v1": one, "v2": two, "latest": two} {
		if err := s.Tag(ctx, desc, tag); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for reference, want := range map[string]ocispec.Descriptor{"v1": one, "v2": two, one.Digest.String(): one} {
		got, err := again.Resolve(ctx, reference)
		if err != nil || got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType {
			t.Errorf("%q is %v, %v; want %s", reference, got, err, want.Digest)
		}
	}
	if _, err := again.Resolve(ctx, "v3"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("error is %v, want not found", err)
	}
}

func TestTagMovesAndTheOthersStay(t *testing.T) {
	ctx, s := context.Background(), newStore(t)
	one, two := pushManifest(t, s, 1), pushManifest(t, s, 2)
	for _, c := range []struct {
		tag  string
		desc ocispec.Descriptor
	}{{"a", one}, {"b", one}, {"a", two}} {
		if err := s.Tag(ctx, c.desc, c.tag); err != nil {
			t.Fatal(err)
		}
	}
	for tag, want := range map[string]ocispec.Descriptor{"a": two, "b": one} {
		if got, err := s.Resolve(ctx, tag); err != nil || got.Digest != want.Digest {
			t.Errorf("%q is %v, %v", tag, got, err)
		}
	}
}

func TestOnlyManifestIsFoundWithoutATag(t *testing.T) {
	ctx, s := context.Background(), newStore(t)
	one := pushManifest(t, s, 1)
	if err := s.Tag(ctx, one, "odd"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Only(); err != nil || got.Digest != one.Digest {
		t.Errorf("%v, %v", got, err)
	}
	for _, reference := range []string{"latest", ""} {
		if _, err := s.Resolve(ctx, reference); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%q is not there, the error is %v", reference, err)
		}
	}
	if err := s.Tag(ctx, pushManifest(t, s, 2), "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Only(); !errors.Is(err, errdef.ErrNotFound) || !strings.Contains(err.Error(), `tags "odd", "other"`) {
		t.Errorf("one of two manifests was chosen: %v", err)
	}
}

func TestUnlistedManifestIsFoundByDigest(t *testing.T) {
	s := newStore(t)
	desc := pushManifest(t, s, 1)
	if got, err := s.Resolve(context.Background(), desc.Digest.String()); err != nil || got.MediaType != desc.MediaType || got.Size != desc.Size {
		t.Errorf("%v, %v", got, err)
	}
	plain := content.NewDescriptorFromBytes("text/plain", []byte("[]"))
	if err := s.Push(context.Background(), plain, strings.NewReader("[]")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(context.Background(), plain.Digest.String()); err == nil {
		t.Error("a blob that is no manifest was found")
	}
}

func TestPushRefusesOtherBytesAndLeavesNothing(t *testing.T) {
	s := newStore(t)
	desc := content.NewDescriptorFromBytes("text/plain", []byte("right"))
	for name, b := range map[string]string{"other": "wrong", "shorter": "righ", "longer": "right!"} {
		if err := s.Push(context.Background(), desc, strings.NewReader(b)); err == nil {
			t.Errorf("%s bytes are stored", name)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Push(cancelled, desc, strings.NewReader("right")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir(), "blobs/sha256/*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir(), "blobs/sha256/.*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := s.Push(context.Background(), desc, strings.NewReader("right")); err != nil {
		t.Fatal(err)
	}
	if err := s.Push(context.Background(), desc, nil); !errors.Is(err, errdef.ErrAlreadyExists) {
		t.Errorf("second push: %v", err)
	}
}

func TestReadingChangesNothing(t *testing.T) {
	ctx, s := context.Background(), newStore(t)
	desc := pushManifest(t, s, 1)
	if err := s.Tag(ctx, desc, "v1"); err != nil {
		t.Fatal(err)
	}
	snapshot := func() string {
		var b strings.Builder
		err := filepath.WalkDir(s.Dir(), func(path string, d os.DirEntry, err error) error {
			fi, statErr := os.Lstat(path)
			fmt.Fprintln(&b, path, fi.Mode(), fi.Size(), fi.ModTime())
			return errors.Join(err, statErr)
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	before := snapshot()
	r, err := Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve(ctx, "v1"); err != nil {
		t.Fatal(err)
	}
	body, err := r.Fetch(ctx, desc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := content.ReadAll(body, desc); err != nil || body.Close() != nil {
		t.Fatal(err)
	}
	if after := snapshot(); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

func TestConcurrentWritersLoseNoTag(t *testing.T) {
	ctx, s := context.Background(), newStore(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			other, err := Open(s.Dir()) // as another process would
			if err != nil {
				t.Error(err)
				return
			}
			desc := pushManifest(t, other, i)
			if err := other.Tag(ctx, desc, fmt.Sprint("v", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 20 {
		if _, err := s.Resolve(ctx, fmt.Sprint("v", i)); err != nil {
			t.Error(err)
		}
	}
}

func TestDirectoryWithOtherThingsIsNoLayout(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir); err == nil || !strings.Contains(err.Error(), "neither an image layout nor empty") {
		t.Errorf("error is %v", err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "is it an image layout?") {
		t.Errorf("error is %v", err)
	}
	if _, err := Open(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "the directory does not exist") {
		t.Errorf("error about a missing directory is %v", err)
	}
}

func TestInterruptedLayoutIsCompleted(t *testing.T) {
	for name, left := range map[string][]string{
		"before the first file":  {atomicfile.Prefix + "1"},
		"before the layout file": {ocispec.ImageIndexFile},
		"before the index":       {ocispec.ImageLayoutFile, atomicfile.Prefix + "2"},
	} {
		whole := newStore(t)
		dir := t.TempDir()
		for _, file := range left {
			b, err := os.ReadFile(filepath.Join(whole.dir, file))
			if err != nil && strings.HasPrefix(file, atomicfile.Prefix) {
				err = nil
			}
			if err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), b, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Create(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := s.Tag(context.Background(), pushManifest(t, s, 1), "v1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLeftoversOfKilledWritersGo(t *testing.T) {
	s := newStore(t)
	desc := pushManifest(t, s, 1)
	blobs := filepath.Dir(filepath.Join(s.dir, blobPath(desc.Digest)))
	for _, dir := range []string{s.dir, blobs} {
		for _, name := range []string{atomicfile.Prefix + "dead", atomicfile.Prefix + "alive", "other"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		alive, err := os.Open(filepath.Join(dir, atomicfile.Prefix+"alive"))
		if err != nil {
			t.Fatal(err)
		}
		defer alive.Close()
		if err := unix.Flock(int(alive.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Create(s.dir); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{s.dir, blobs} {
		for name, want := range map[string]bool{atomicfile.Prefix + "dead": false, atomicfile.Prefix + "alive": true, "other": true} {
			if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != want {
				t.Errorf("%s in %s: %v", name, dir, err)
			}
		}
	}
}

func TestConcurrentCreatorsMakeOneLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	errs := make(chan error, 8)
	for i := range cap(errs) {
		go func() {
			s, err := Create(dir)
			if err == nil {
				b := fmt.Appendf(nil, `{"n":%d}`, i)
				desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, b)
				err = errors.Join(s.Push(context.Background(), desc, bytes.NewReader(b)), s.Tag(context.Background(), desc, fmt.Sprint("v", i)))
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if index, err := s.index(); err != nil || len(index.Manifests) != cap(errs) {
		t.Errorf("%v, %v", index, err)
	}
}

func TestCorruptLayoutIsRefusedWithTheReason(t *testing.T) {
	good := `{"schemaVersion":2,"manifests":[]}`
	entry := func(s string) string { return `{"schemaVersion":2,"manifests":[` + s + `]}` }
	for name, c := range map[string]struct{ layout, index, says string }{
		"cut index":        {"", good[:20], "index.json"},
		"no index":         {"", "-", "index.json"},
		"other schema":     {"", `{"schemaVersion":1}`, "schema version is 1"},
		"path as digest":   {"", entry(`{"digest":"sha256:../../../etc/passwd","size":1}`), "digest"},
		"no digest":        {"", entry(`{"size":1}`), "digest"},
		"negative size":    {"", entry(`{"digest":"` + digest.FromString("x").String() + `","size":-1}`), "size is -1"},
		"huge index":       {"", good + strings.Repeat(" ", maxIndex), "more than"},
		"other version":    {`{"imageLayoutVersion":"2.0.0"}`, good, `version is "2.0.0"`},
		"cut layout":       {`{"imageL`, good, "oci-layout"},
		"index of strings": {"", `{"schemaVersion":2,"manifests":["a"]}`, "index.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newStore(t).Dir()
			if c.layout != "" {
				if err := os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(c.layout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			index := filepath.Join(dir, "index.json")
			if err := os.Remove(index); err != nil {
				t.Fatal(err)
			}
			if c.index != "-" {
				if err := os.WriteFile(index, []byte(c.index), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error is %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestLinksLeadNowhereOutside(t *testing.T) {
	s := newStore(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	desc := content.NewDescriptorFromBytes("text/plain", []byte("secret"))
	path := filepath.Join(s.Dir(), filepath.FromSlash(blobPath(desc.Digest)))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Fetch(context.Background(), desc); err == nil {
		b, _ := io.ReadAll(r)
		t.Errorf("read %q through a link", b)
	}
	if _, err := s.Fetch(context.Background(), ocispec.Descriptor{Digest: "sha256:../../index.json", Size: 1}); err == nil {
		t.Error("a path is taken for a digest")
	}
}

func TestAPipeInPlaceOfAFileIsRefusedAtOnce(t *testing.T) {
	whole := newStore(t)
	desc := pushManifest(t, whole, 1)
	for _, name := range []string{"", ocispec.ImageLayoutFile, ocispec.ImageIndexFile, blobPath(desc.Digest)} {
		s := &Store{dir: filepath.Join(t.TempDir(), "copy")}
		if err := os.CopyFS(s.dir, os.DirFS(whole.dir)); err != nil {
			t.Fatal(err)
		}
		pipe := filepath.Join(s.dir, name)
		if err := os.RemoveAll(pipe); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := Open(s.dir)
			_, fetchErr := s.Fetch(context.Background(), desc)
			done <- errors.Join(err, fetchErr)
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "no regular file") && !strings.Contains(err.Error(), "not a directory") {
				t.Errorf("pipe %q: error is %v", name, err)
			}
		case <-time.After(10 * time.Second):
			w, err := os.OpenFile(pipe, os.O_RDWR, 0) // a writer, which whoever waits has waited for
			if err == nil {
				defer w.Close()
			}
			t.Errorf("pipe %q: opening it waits (%v)", name, err)
		}
	}
}

func TestDamagedBlobIsReplaced(t *testing.T) {
	for name, damage := range map[string]func(path string, size int64) error{
		"cut off": func(path string, size int64) error { return os.Truncate(path, size-1) },
		"other bytes": func(path string, size int64) error {
			return os.WriteFile(path, bytes.Repeat([]byte{'x'}, int(size)), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := context.Background(), newStore(t)
			desc := pushManifest(t, s, 1)
			if err := damage(filepath.Join(s.dir, blobPath(desc.Digest)), desc.Size); err != nil {
				t.Fatal(err)
			}
			if ok, err := s.Exists(ctx, desc); ok || err != nil {
				t.Errorf("exists: %v, %v", ok, err)
			}
			if err := s.Tag(ctx, desc, "v1"); !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("tagged: %v", err)
			}
			pushManifest(t, s, 1)
			if ok, err := s.Exists(ctx, desc); !ok || err != nil {
				t.Errorf("exists after the second push: %v, %v", ok, err)
			}
		})
	}
}

func TestBlobOfOtherSizeIsNotOpened(t *testing.T) {
	s := newStore(t)
	desc := pushManifest(t, s, 1)
	desc.Size++
	if _, err := s.Fetch(context.Background(), desc); err == nil || !strings.Contains(err.Error(), "its descriptor says") {
		t.Errorf("error is %v", err)
	}
	desc.Digest = digest.FromString("missing")
	if _, err := s.Fetch(context.Background(), desc); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("error is %v", err)
	}
	if err := s.Tag(context.Background(), desc, "x"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("a missing manifest is tagged: %v", err)
	}
}

func FuzzIndex(f *testing.F) {
	d := digest.FromString("x").String()
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"`+d+`","size":1,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}`), "latest")
	f.Add([]byte(`{"schemaVersion":2}`), d)
	f.Fuzz(func(t *testing.T, index []byte, reference string) {
		dir := t.TempDir()
		layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "oci-layout"), layout, 0o644), os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err != nil {
			return
		}
		desc, err := s.Resolve(context.Background(), reference)
		if err == nil && (desc.Digest.Validate() != nil || desc.Size < 0) {
			t.Fatalf("resolved to %+v", desc)
		}
	})
}
