package difftest_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/mkfs"
)

// How many random trees are tried, and how many of them one image holds: mounting costs more than a small tree.
const (
	randomTrees     = 1000
	longRandomTrees = 20_000
	treesPerImage   = 25
)

// long reports whether PAGEIN_LONG asks for the tests that take many minutes.
func long() bool { return os.Getenv("PAGEIN_LONG") != "" }

// TestRandomTreesReadAlikeForEverybody makes images of random trees in each way there is. PAGEIN_LONG=1 tries 20,000.
func TestRandomTreesReadAlikeForEverybody(t *testing.T) {
	require.Root(t)
	if testing.Short() {
		t.Skip("long")
	}
	count := randomTrees
	if long() {
		count = longRandomTrees
	}
	for first := 0; first < count; first += treesPerImage {
		t.Run(fmt.Sprintf("seeds %d to %d", first, first+treesPerImage-1), func(t *testing.T) {
			t.Parallel()
			dir := difftest.Scratch(t)
			for seed := first; seed < first+treesPerImage; seed++ {
				sub := filepath.Join(dir, fmt.Sprint(seed))
				if err := os.Mkdir(sub, 0o755); err != nil {
					t.Fatal(err)
				}
				treetest.Small(t, sub, int64(seed))
			}
			ways := []way{plain, onDevice, artifact, fromTar}
			for i, w := range ways {
				// The way that most people go is tried with each tree, another one in turn.
				if i == 0 || i == 1+first/treesPerImage%(len(ways)-1) {
					w.agree(t, dir)
				}
			}
		})
	}
}

// way is one of the ways from a directory to an image.
type way struct {
	name  string
	make  func(t testing.TB, dir string) difftest.Image
	holes bool // the source's holes stay holes
}

func (w way) agree(t *testing.T, dir string) {
	t.Run(w.name, func(t *testing.T) {
		difftest.Agree(t, dir, w.make(t, dir), difftest.Options{Holes: w.holes})
	})
}

var (
	plain    = way{"plain image", func(t testing.TB, dir string) difftest.Image { return makeImage(t, fromDir(dir), false) }, true}
	onDevice = way{"data on a device", func(t testing.TB, dir string) difftest.Image { return makeImage(t, fromDir(dir), true) }, true}
	fromTar  = way{"plain image of a tar", imageOfTar, true}
	artifact = way{"artifact", artifactOfDir, false} // see docs/format.md: no hole before data
)

// makeImage writes a plain image of a source, its data on a device of its own if asked for.
func makeImage(t testing.TB, source mkfs.Source, device bool) difftest.Image {
	t.Helper()
	temp := t.TempDir()
	img := difftest.Image{Path: filepath.Join(temp, "image")}
	o := mkfs.ImageOptions{}
	if device {
		o.BlobDev = filepath.Join(temp, "data")
	}
	stats, err := mkfs.WriteImage(context.Background(), img.Path, source, o)
	if err != nil {
		t.Fatal(err)
	}
	if stats.BlobDev != "" {
		img.Devices = []string{o.BlobDev}
	}
	return img
}

func fromDir(dir string) mkfs.Source {
	return func(ctx context.Context, tree *mkfs.Tree, sink mkfs.Sink) error { return tree.AddDir(ctx, dir, sink) }
}

func imageOfTar(t testing.TB, dir string) difftest.Image {
	t.Helper()
	return makeImage(t, fromTarFile(difftest.TarOf(t, dir)), false)
}
