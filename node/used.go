package node

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Used returns what the images that are mounted below a directory take on the disk, in bytes, by where below it they are mounted: their metadata images, and what is present of their blobs. What
// several of them have in common counts for one of them only, so that the sum is what would be free without all of them.
func (n *Node) Used(dir string) (map[string]int64, error) {
	resolved, err := filepath.EvalSymlinks(dir) // as targets are
	if err != nil {
		return nil, fmt.Errorf("find what is mounted below %s: %w", dir, err)
	}
	if err := n.enter(); err != nil {
		return nil, err
	}
	defer n.mu.Unlock()
	used, counted := make(map[string]int64), make(map[string]bool)
	for _, id := range slices.Sorted(maps.Keys(n.images)) {
		img := n.images[id]
		size := img.MetaSize
		for _, b := range img.attached.Blobs {
			if !counted[b.ID()] {
				size += img.present(b)
			}
		}
		below := 0
		for _, target := range slices.Sorted(slices.Values(img.targets)) {
			if rel, ok := strings.CutPrefix(target, resolved+"/"); ok {
				used[rel] = size
				size, below = 0, below+1
			}
		}
		for _, b := range img.attached.Blobs {
			counted[b.ID()] = counted[b.ID()] || below > 0
		}
	}
	return used, nil
}
