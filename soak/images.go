package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// image is a lazy image in the registry, and the tree that it was made from.
type image struct {
	ref, tree string
}

// sizes of files in bytes: around blocks, small-file frames, frames and what is read ahead.
var sizes = []int{0, 1, 100, 4095, 4096, 4097, 20_000, 65_536, 65_537, 131_072, 131_073, 400_000, 1 << 20, 1<<20 + 1, 3 << 20}

// makeImages makes trees and puts their images into the registry: a base, one that borrows most of its data from it, one with the same blob as the base
// and other metadata, and one of its own.
func makeImages(ctx context.Context, d *daemon, host string, rnd *rand.Rand) ([]image, error) {
	var all []image
	for _, recipe := range []struct {
		name  string
		bases []string // of what else it has the files
		own   int      // files of its own
		args  []string
	}{
		{"base", nil, 90, nil},
		{"next", []string{"base"}, 20, []string{"--dict", host + "/app:base"}},
		{"same", []string{"base"}, 0, nil},
		{"other", nil, 90, nil},
		{"both", []string{"base", "other"}, 10, []string{"--dict", host + "/app:base", "--dict", host + "/app:other"}},
	} {
		tree := d.place.path("tree-" + recipe.name)
		if err := os.MkdirAll(tree, 0o755); err != nil {
			return nil, err
		}
		for _, base := range recipe.bases {
			if err := os.CopyFS(filepath.Join(tree, base), os.DirFS(d.place.path("tree-"+base))); err != nil {
				return nil, err
			}
		}
		if err := fillTree(tree, recipe.own, rnd); err != nil {
			return nil, err
		}
		ref := host + "/app:" + recipe.name
		if _, err := d.pagein(ctx, append(append([]string{"convert", "--quiet"}, recipe.args...), "dir:"+tree, ref)...); err != nil {
			return nil, fmt.Errorf("make image %s: %w", recipe.name, err)
		}
		all = append(all, image{ref, tree})
	}
	return all, nil
}

// fillTree makes files in some directories. Half of each file compresses well.
func fillTree(tree string, files int, rnd *rand.Rand) error {
	for i := range files {
		dir := filepath.Join(tree, fmt.Sprintf("d%d", i%7))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		data := make([]byte, sizes[rnd.IntN(len(sizes))])
		for at := range data {
			if at>>9&1 == 0 {
				data[at] = byte(rnd.Uint32())
			} else {
				data[at] = byte(1 + i) // zeros would look like what was never fetched
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), data, 0o644); err != nil { // #nosec G306 -- as files in images are
			return err
		}
	}
	return nil
}
