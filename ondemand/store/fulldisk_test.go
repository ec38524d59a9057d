package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/cutdisk"
	"github.com/pagein/pagein/internal/require"
)

// fill takes all space of a file system.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(dir + "/filler")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var off int64
	for n := int64(64 << 20); n >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, off, n); {
		case err == nil:
			off += n
		case errors.Is(err, unix.ENOSPC):
			n /= 2
		default:
			t.Fatal(err)
		}
	}
}

// release is the kernel's version, 6018 for 6.18.
func release(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(b), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return 1000*major + minor
}

// TestPresenceNeedsNoSpaceOnAFullDisk changes what is present on a disk without space, after what was written before has reached the disk: a mapping that needs space then kills the daemon.
func TestPresenceNeedsNoSpaceOnAFullDisk(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fstype, func(t *testing.T) {
			if fstype == "btrfs" {
				require.Feature(t, release(t) >= 6018, "btrfs that writes to mappings in place (Linux 6.18)")
			}
			d := cutdisk.New(t, fstype)
			s := open(t, d.Dir+"/store")
			b := blob(t, s)
			put(t, b, 1, 2, 3)
			checkpoint(t, b)
			fill(t, d.Dir)
			b.Presence().Set(4) // as if its bytes had found the last space
			checkpoint(t, b)
			if err := b.Forget(2, 4); err != nil {
				t.Error(err)
			}
			if got, want := reopened(t, s, b), []int{1, 3}; !slices.Equal(got, want) {
				t.Errorf("present are %v, want %v", got, want)
			}
		})
	}
}
