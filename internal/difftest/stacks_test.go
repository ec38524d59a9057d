package difftest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/pkg/archive"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

// How many random stacks of layers are tried, of either kind.
const (
	randomStacks     = 100
	longRandomStacks = 2000
	stackLayers      = 6
)

func stacks(t *testing.T) int {
	t.Helper()
	require.Root(t)
	switch {
	case testing.Short():
		t.Skip("long")
	case long():
		return longRandomStacks
	}
	return randomStacks
}

// TestRandomLayerStacksFollowTheRulesOfOCI has layers with everything that image-spec allows, in any order. PAGEIN_LONG=1 tries 2,000.
func TestRandomLayerStacksFollowTheRulesOfOCI(t *testing.T) {
	for seed := range stacks(t) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := newStack(t, int64(seed), false)
			var layers [][]byte
			for range stackLayers {
				layers = append(layers, s.addLayer())
			}
			difftest.Agree(t, s.dir, artifactOfLayers(t, layers...), difftest.Options{})
		})
	}
}

// TestRandomLayerStacksEqualThoseOfContainerd has layers as image builders make them. What containerd unpacks otherwise than OCI says is in
// TestWhereContainerdDiffers. PAGEIN_LONG=1 tries 2,000.
func TestRandomLayerStacksEqualThoseOfContainerd(t *testing.T) {
	for seed := range stacks(t) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := newStack(t, int64(seed), true)
			var layers [][]byte
			for range stackLayers {
				layers = append(layers, s.addLayer())
			}
			img := artifactOfLayers(t, layers...)
			difftest.Agree(t, s.dir, img, difftest.Options{})
			treetest.CompareWith(t, containerd(t, layers...), difftest.Mount(t, img), treetest.Options{IgnoreRoot: true})
		})
	}
}

// containerd unpacks layers as containerd's overlayfs snapshotter has it done, mounts them over each other and returns the directory.
func containerd(t testing.TB, layers ...[]byte) string {
	t.Helper()
	dirs, err := unpacked(t, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return difftest.Overlay(t, dirs...)
}

// unpacked lets containerd unpack layers, each into a directory of its own.
func unpacked(t testing.TB, layers ...[]byte) (dirs []string, err error) {
	t.Helper()
	base := difftest.Scratch(t)
	var parents []string // the topmost one comes first
	for i, l := range layers {
		dir := filepath.Join(base, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := archive.Apply(context.Background(), dir, bytes.NewReader(l), archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(parents))
		if err != nil {
			return nil, fmt.Errorf("containerd: apply layer %d: %w", i+1, err)
		}
		dirs, parents = append(dirs, dir), append([]string{dir}, parents...)
	}
	return dirs, nil
}
