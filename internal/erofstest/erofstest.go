// Package erofstest has the kernel read EROFS images that tests made.
package erofstest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// Mount mounts an image file, with the files of its devices in their order, until the test ends and returns the directory. All names together must fit into
// the 4 KiB that mount(2) takes.
func Mount(t testing.TB, image string, devices ...string) string {
	t.Helper()
	require.Root(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var options []string
	for _, d := range devices {
		options = append(options, "device="+d)
	}
	err := unix.Mount(image, dir, "erofs", unix.MS_RDONLY, strings.Join(options, ","))
	require.Feature(t, !errors.Is(err, unix.ENOTBLK) && !errors.Is(err, unix.ENODEV), "EROFS file-backed mounts (Linux 6.12)")
	if err != nil {
		t.Fatalf("mount %s: %v", image, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}
