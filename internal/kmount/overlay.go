package kmount

import (
	"path/filepath"
	"slices"
	"strings"
)

// Overlay is an overlayfs mount.
type Overlay struct {
	Target string
	lower  []string // as the mount was told
}

// Overlays returns the overlayfs mounts of this mount namespace in the kernel's order.
func Overlays() ([]Overlay, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var list []Overlay
	for _, m := range all {
		if m.Type == "overlay" {
			list = append(list, Overlay{Target: m.Target, lower: lowers(m.SuperOptions)})
		}
	}
	return list, nil
}

// lowers returns the lower directories in the options of an overlay: one option with all of them, or one for each.
func lowers(options string) (dirs []string) {
	for o := range strings.SplitSeq(options, ",") {
		if dir, ok := strings.CutPrefix(o, "lowerdir+="); ok {
			dirs = append(dirs, dir)
		} else if list, ok := strings.CutPrefix(o, "lowerdir="); ok {
			dirs = append(dirs, strings.Split(list, ":")...)
		}
	}
	return dirs
}

// Shows reports whether a directory is one of the overlay's lower ones. Those that were given relative to a directory that is not known any more, as containerd does if they are many, are
// compared by what is known.
func (o Overlay) Shows(dir string) bool {
	return slices.ContainsFunc(o.lower, func(lower string) bool {
		return lower == dir || lower != "" && !filepath.IsAbs(lower) && strings.HasSuffix(dir, "/"+lower)
	})
}
