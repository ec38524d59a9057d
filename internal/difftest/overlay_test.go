package difftest_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/mkfs"
)

// TestLayersAsImagesOfTheirOwnEqualThoseOfContainerd makes an image of each layer, as "mkfs --aufs" does, and lets overlayfs put them over each
// other: the kernel must understand the whiteouts in them.
func TestLayersAsImagesOfTheirOwnEqualThoseOfContainerd(t *testing.T) {
	for seed := range stacks(t) / 10 {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := newStack(t, int64(seed), true)
			var layers [][]byte
			for range stackLayers {
				layers = append(layers, s.addLayer())
			}
			overlayEqual(t, layers...)
		})
	}
	t.Run("directory made anew, marker last", func(t *testing.T) {
		layers := [][]byte{
			tartest.Archive(t, tartest.Directory("d", 0o755), tartest.File("d/old", "x"), tartest.Directory("d/e", 0o700), tartest.File("d/e/old", "x")),
			tartest.Archive(t, tartest.Directory("d", 0o750), tartest.File("d/new", "y"), tartest.File("d/e/new", "y"), tartest.File(".wh.d", ""), tartest.File("d/e/.wh.old", "")),
		}
		// containerd cannot: see TestWhereContainerdDiffers. Flattened, the layers show the same.
		treetest.CompareWith(t, difftest.Mount(t, artifactOfLayers(t, layers...)), imagesOfLayers(t, layers...), treetest.Options{IgnoreRoot: true})
	})
}

func overlayEqual(t *testing.T, layers ...[]byte) {
	t.Helper()
	treetest.CompareWith(t, containerd(t, layers...), imagesOfLayers(t, layers...), treetest.Options{IgnoreRoot: true})
}

// imagesOfLayers mounts images of single layers over each other.
func imagesOfLayers(t *testing.T, layers ...[]byte) string {
	t.Helper()
	var mounts []string
	for i, l := range layers {
		img := difftest.Image{Path: fmt.Sprint(t.TempDir(), "/layer", i)}
		_, err := mkfs.WriteImage(context.Background(), img.Path, func(ctx context.Context, tree *mkfs.Tree, sink mkfs.Sink) error {
			return tree.AddTar(ctx, bytes.NewReader(l), sink)
		}, mkfs.ImageOptions{OverlayWhiteouts: true})
		if err != nil {
			t.Fatal(err)
		}
		difftest.Check(t, img)
		mounts = append(mounts, difftest.Mount(t, img))
	}
	return difftest.Overlay(t, mounts...)
}
