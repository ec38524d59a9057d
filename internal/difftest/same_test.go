package difftest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/mkfs"
)

// TestSameSourceGivesTheSameBytes makes images of a tree and of a copy with other inode numbers on another file system, in other working
// directories, with one processor and with two.
func TestSameSourceGivesTheSameBytes(t *testing.T) {
	require.Root(t)
	first := t.TempDir()
	treetest.Random(t, first, 11)
	second := filepath.Join(difftest.Scratch(t), "copy")
	if out, err := exec.Command("cp", "-a", first, second).CombinedOutput(); err != nil {
		t.Fatalf("cp -a: %v\n%s", err, out)
	}
	stream := difftest.TarOf(t, first)
	sources := map[string][]func(t *testing.T) mkfs.Source{
		"directory": {
			func(*testing.T) mkfs.Source { return fromDir(first) },
			func(*testing.T) mkfs.Source { return fromDir(second) },
			func(t *testing.T) mkfs.Source { t.Chdir(second); return fromDir(".") },
			func(t *testing.T) mkfs.Source { t.Chdir("/"); return fromDir(first[1:]) },
		},
		"tar": {
			func(*testing.T) mkfs.Source { return fromTarFile(stream) },
			func(t *testing.T) mkfs.Source { t.Chdir(second); return fromTarFile(stream) },
		},
	}
	for name, makers := range sources {
		for _, device := range []bool{false, true} {
			want := ""
			for i, source := range makers {
				for _, procs := range []int{1, 2} {
					t.Run(name, func(t *testing.T) {
						procs = runtime.GOMAXPROCS(procs)
						defer runtime.GOMAXPROCS(procs)
						got := digestOf(t, makeImage(t, source(t), device))
						if want == "" {
							want = got
						}
						if got != want {
							t.Errorf("source %d, device %v: the image is %s, others are %s", i, device, got, want)
						}
					})
				}
			}
		}
	}
}

func fromTarFile(path string) mkfs.Source {
	return func(ctx context.Context, tree *mkfs.Tree, sink mkfs.Sink) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return tree.AddTar(ctx, f, sink)
	}
}

// digestOf is that of all files of an image.
func digestOf(t *testing.T, img difftest.Image) string {
	t.Helper()
	h := sha256.New()
	for _, path := range append([]string{img.Path}, img.Devices...) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}
