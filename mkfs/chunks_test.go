package mkfs

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/erofstest"
)

// chunkedSource makes files that share data at multiples of 64 KiB, small and large ones, and a tar with the same.
func chunkedSource(t *testing.T) (dir, archive string, unique int64) {
	t.Helper()
	dir, archive = t.TempDir(), filepath.Join(t.TempDir(), "tar")
	random := rand.NewChaCha8([32]byte{5})
	shared := make([]byte, 3<<20)
	random.Read(shared)
	tail := make([]byte, 10_000)
	random.Read(tail)
	files := map[string][]byte{
		"large-1": shared,
		"large-2": append(append(bytes.Clone(shared[1<<20:]), make([]byte, 1<<16)...), tail...),
		"small-1": shared[:1<<16],
		"small-2": append(bytes.Clone(shared[2<<16:3<<16]), tail...),
		"tail":    tail,
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, archive, int64(len(shared) + 1<<16 + len(tail))
}

func TestEqualChunksAreStoredOnce(t *testing.T) {
	dir, archive, unique := chunkedSource(t)
	for name, source := range map[string]Source{"directory": dirOf(dir), "tar": tarOf(archive)} {
		t.Run(name, func(t *testing.T) {
			image, stats := makeImage(t, source, ImageOptions{ChunkSize: 1 << 16})
			if stats.Data.Appended != unique || stats.Data.Shared != stats.Data.Bytes-unique {
				t.Errorf("stored %d of %d bytes, want %d", stats.Data.Appended, stats.Data.Bytes, unique)
			}
			accepted(t, image, "", stats)
			sameContents(t, dir, erofstest.Mount(t, image))
		})
	}
	for _, size := range []int64{1, 4095, 12288, MaxChunkSize * 2} {
		if _, err := New(Options{ChunkSize: size}); err == nil {
			t.Errorf("chunks of %d bytes are accepted", size)
		}
	}
}

func TestDigestsAreThoseOfTheContents(t *testing.T) {
	dir, archive, _ := chunkedSource(t)
	if err := os.WriteFile(filepath.Join(dir, "tiny"), []byte("tiny"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]Source{"directory": dirOf(dir), "tar": tarOf(archive)} {
		for _, chunk := range []int64{0, 1 << 16} {
			t.Run(fmt.Sprint(name, " in chunks of ", chunk), func(t *testing.T) {
				image, _ := makeImage(t, source, ImageOptions{DigestXattr: erofs.DefaultDigestXattr, ChunkSize: chunk})
				f := open(t, image)
				info, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				fsys, err := erofs.Open(f, info.Size())
				if err != nil {
					t.Fatal(err)
				}
				entries, err := fsys.ReadDir(".")
				if err != nil || len(entries) < 5 {
					t.Fatal(entries, err)
				}
				for _, e := range entries {
					data, err := os.ReadFile(filepath.Join(dir, e.Name()))
					if err != nil {
						t.Fatal(err)
					}
					if got, ok, err := fsys.Digest(e.Name()); err != nil || !ok || got != sha256.Sum256(data) {
						t.Errorf("%s: digest %x, %t, %v", e.Name(), got, ok, err)
					}
				}
			})
		}
	}
}

// sameContents compares the files of two directories.
func sameContents(t *testing.T, want, got string) {
	t.Helper()
	entries, err := os.ReadDir(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !bytes.Equal(readAll(t, filepath.Join(want, e.Name())), readAll(t, filepath.Join(got, e.Name()))) {
			t.Errorf("%s: other data", e.Name())
		}
	}
}
