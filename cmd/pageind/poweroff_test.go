package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// TestRebootBringsImagesBack runs once in each of three boots of a machine that is shut down, and then has its power cut. The source is away when it boots: what had been fetched is
// right, what had not is an error until the source is back.
func TestRebootBringsImagesBack(t *testing.T) {
	disk, boot := require.Boot(t)
	l := &lab{T: t, dir: filepath.Join(disk, "reboot")}
	l.root = filepath.Join(l.dir, "root")
	target, layout, away := filepath.Join(l.dir, "mnt"), filepath.Join(l.dir, "layout"), filepath.Join(l.dir, "away")
	tree := filepath.Join(l.dir, "source")
	// read compares a file with its source.
	read := func(name string) error {
		want, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(target, name))
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("boot %d: %s has wrong bytes", boot, name)
		}
		return err
	}
	must := func(name string) {
		if err := read(name); err != nil {
			t.Errorf("boot %d: %v", boot, err)
		}
	}
	if boot == 1 {
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		l.bigFiles("a", "b", "c", "d", "e", "f", "g", "z")
		l.start()
		l.pagein("mount", "--deadline", "500ms", l.layout(tree), target)
		must("a")
		return
	}
	if err := errors.Join(os.Rename(layout, away), os.RemoveAll(filepath.Join(l.dir, "run")), os.RemoveAll(filepath.Join(l.dir, "sock"))); err != nil {
		t.Fatal(err)
	}
	l.start()
	l.waitFor("the image to be mounted again", func() bool {
		images := l.status().Images
		return len(images) == 1 && slices.Contains(images[0].Targets, target)
	})
	must("a")
	err := read("z")
	s := l.status()
	t.Logf("measured: boot %d: %d of %d bytes are present, %d were fetched; what was never read: %v", boot, s.Images[0].PresentBytes, s.Images[0].TotalBytes, s.Totals.BackendBytes, err)
	if s.Totals.BackendBytes > 0 {
		t.Errorf("%d bytes came from a source that is away", s.Totals.BackendBytes)
	}
	if boot == 2 && !errors.Is(err, unix.EIO) && s.Images[0].PresentBytes < s.Images[0].TotalBytes || boot == 3 && err != nil {
		t.Errorf("boot %d: what came last reads %v", boot, err)
	}
	if err := os.Rename(away, layout); err != nil {
		t.Fatal(err)
	}
	must("z")
	time.Sleep(8 * time.Second) // until the file system has committed it
}
