package main

import (
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// smallDisk is a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestConvertOnAFullDiskSaysSoAndTagsNothing(t *testing.T) {
	source := t.TempDir()
	noise := make([]byte, 4<<20)
	rand.New(rand.NewSource(1)).Read(noise)
	if err := os.WriteFile(filepath.Join(source, "noise"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ full, temp, dst string }{
		"temporary directory": {full: smallDisk(t), dst: t.TempDir()},
		"layout":              {full: smallDisk(t), temp: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			if c.temp == "" {
				c.temp = c.full
			} else {
				c.dst = c.full
			}
			dst := filepath.Join(c.dst, "layout")
			status, _, stderr := pagein(t, "pagein", "convert", "--temp-dir", c.temp, "dir:"+source, "oci:"+dst+":v1")
			if status != exitFailure || !strings.Contains(stderr, unix.ENOSPC.Error()) || !strings.Contains(stderr, c.full) {
				t.Errorf("status %d, %s", status, stderr)
			}
			for _, dir := range []string{c.dst, c.full} {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			}
			if err := os.RemoveAll(filepath.Join(source, "noise")); err != nil {
				t.Fatal(err)
			}
			convertJSON(t, "--temp-dir", c.temp, "dir:"+source, "oci:"+dst+":v1") // what fits still works
			if err := os.WriteFile(filepath.Join(source, "noise"), noise, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}
