package snapshotter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
)

// lowerOption is overlayfs' option with the layers below, the topmost first.
const lowerOption = "lowerdir="

// shorten leaves out of a mount what lies below a lazily mounted layer: that one shows all of it. The layers below are given by their IDs, the topmost first.
func (s *Snapshotter) shorten(mounts []mount.Mount, below []string) ([]mount.Mount, error) {
	keep := len(below)
	for i, id := range below {
		n, err := s.lazy(id)
		if err != nil {
			return nil, err
		}
		if n != nil && n.Top {
			keep = i + 1
			break
		}
	}
	if keep == len(below) {
		return mounts, nil
	}
	for i := range mounts {
		if mounts[i].Type == "overlay" {
			var err error
			if mounts[i], err = keepLower(mounts[i], keep); err != nil {
				return nil, err
			}
		}
	}
	return mounts, nil
}

// keepLower keeps the n topmost layers of an overlay, n ≥ 1. An overlay of one layer that is only read is no overlay for the kernel, but that layer.
func keepLower(m mount.Mount, n int) (mount.Mount, error) {
	at := slices.IndexFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, lowerOption) })
	if at < 0 {
		return m, fmt.Errorf("overlay mount has no layers: %q", m.Options)
	}
	layers := strings.Split(strings.TrimPrefix(m.Options[at], lowerOption), ":")
	if len(layers) < n {
		return m, fmt.Errorf("overlay mount has %d layers, not %d", len(layers), n)
	}
	written := slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "upperdir=") })
	if n == 1 && !written {
		return mount.Mount{Type: "bind", Source: layers[0], Options: []string{"ro", "rbind"}}, nil
	}
	m.Options = slices.Clone(m.Options)
	m.Options[at] = lowerOption + strings.Join(layers[:n], ":")
	return m, nil
}
