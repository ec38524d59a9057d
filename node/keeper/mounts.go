package keeper

import (
	"bytes"
	"fmt"
	"os"
)

func isInotify(fd int) bool {
	what, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return err == nil && what == "anon_inode:inotify"
}

// watches counts the watches of an inotify instance (Documentation/filesystems/proc.rst: one "inotify wd:" line each).
func watches(fd int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, fmt.Errorf("count inotify watches: %w", err)
	}
	return bytes.Count(data, []byte("\ninotify wd:")), nil
}
