package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long processes have to end by themselves.
const grace = 3 * time.Second

// shutDown does what service managers do before they power off: processes are asked to end, then killed, file systems unmounted and written back.
func shutDown() error {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.Kill(-1, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("send %v to all processes: %w", signal, err)
		}
		if waitForAll(grace) {
			break
		}
	}
	err := unmountAll()
	unix.Sync()
	return err
}

// waitForAll reaps children until there are none, and reports whether it came to that within the limit. Every process is a child of the first one by then.
func waitForAll(limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return true
		case pid <= 0:
			time.Sleep(10 * time.Millisecond)
		}
	}
	return false
}

// unmountAll unmounts what was mounted last first. What is busy, as the disk is while the kernel writes to it in the background, is tried again for a while; what stays busy
// is remounted read-only, which writes it back.
func unmountAll() error {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 3 || !slices.Contains([]string{"erofs", "ext4", "xfs", "overlay"}, fields[2]) {
			continue
		}
		if err := unmount(fields[1]); err != nil {
			fmt.Fprintln(os.Stderr, "init:", err)
		}
	}
	return nil
}

func unmount(dir string) error {
	var err error
	for range 200 {
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("unmount %s: %w", dir, err), unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
	return err
}
