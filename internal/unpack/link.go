package unpack

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// link gives a file that was made before another name.
func (x *extractor) link(first string, parent int, name string) error {
	dir, base, err := x.parentOf(first)
	if err != nil {
		return fmt.Errorf("link to %q: %w", first, err)
	}
	if dir != x.dirs[0] {
		defer unix.Close(dir)
	}
	if err := unix.Linkat(dir, base, parent, name, 0); err != nil {
		return fmt.Errorf("link to %q: %w", first, err)
	}
	return nil
}

// parentOf opens the directory of a path below the target, one name after the other, so that its length does not matter and no symbolic link is followed.
// The descriptor may be that of the target itself.
func (x *extractor) parentOf(path string) (dir int, base string, err error) {
	dir = x.dirs[0]
	for {
		name, rest, more := strings.Cut(path, "/")
		if !more {
			return dir, name, nil
		}
		next, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if dir != x.dirs[0] {
			_ = unix.Close(dir)
		}
		if err != nil {
			return 0, "", fmt.Errorf("open directory %q: %w", name, err)
		}
		dir, path = next, rest
	}
}
