package keeper

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewMounts returns an inotify instance to be held under [MountsName]. It is non-blocking and close-on-exec; the caller owns it.
func NewMounts() (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("make inotify instance: %w", err)
	}
	return fd, nil
}

// WatchMount enters the superblock mounted at root, a mount point, into mounts and returns the watch descriptor, the same one when the
// superblock is watched already. The watch lasts until the superblock dies; its reader then gets IN_UNMOUNT and IN_IGNORED.
func WatchMount(mounts int, root string) (int, error) {
	// Some event must be named; a file system that cannot be written to never raises this one.
	wd, err := unix.InotifyAddWatch(mounts, root, unix.IN_DELETE_SELF|unix.IN_ONLYDIR)
	if err != nil {
		return -1, fmt.Errorf("watch the mount at %s: %w", root, err)
	}
	return wd, nil
}

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
