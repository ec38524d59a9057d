package mkfs

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// resolver follows paths through directories of type D, symbolic links inside the tree as a chroot would.
type resolver[D any] struct {
	// step looks a name up in a directory. It returns the directory that the name is, or else the target of the symbolic link that it is. If
	// it is neither, or missing, that is an error.
	step func(dir D, name string) (next D, target string, err error)
}

// walk returns the directories from the top down to the one that parts name, all of which must be directories or lead to one.
func (r resolver[D]) walk(top D, parts []string) ([]D, error) {
	path := make([]D, 1, len(parts)+1)
	path[0] = top
	for hops := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..": // only from a symbolic link: "/.." is "/"
			path = path[:max(len(path)-1, 1)]
			continue
		}
		if len(path) > maxDepth { // symbolic links can lead deeper than a name is long
			return nil, fmt.Errorf("more than %d directories lie in each other: %w", maxDepth, unix.ENAMETOOLONG)
		}
		if len(part) > maxNameLen {
			return nil, fmt.Errorf("%.20q…: %w", part, unix.ENAMETOOLONG)
		}
		next, target, err := r.step(path[len(path)-1], part)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		if target == "" {
			path = append(path, next)
			continue
		}
		if hops++; hops > maxLinkHops {
			return nil, fmt.Errorf("%q: %w", part, unix.ELOOP)
		}
		if strings.HasPrefix(target, "/") {
			path = path[:1]
		}
		parts = slices.Concat(strings.Split(target, "/"), parts)
	}
	return path, nil
}
