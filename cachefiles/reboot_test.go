package cachefiles

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/ondemand"
)

// outliving holds the device in a process that lives on when the test has ended, as a keeper does.
type outliving struct{}

func (outliving) Hold(_ string, fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(dup), devicePath)
	defer func() { _ = file.Close() }()
	cmd := exec.Command("sleep", "3600")
	cmd.ExtraFiles = []*os.File{file}
	return cmd.Start()
}

func (outliving) Release(string) error { return nil }

// leave mounts the image where the mount stays when the test has ended, with nobody to serve it.
func (d *daemon) leave(img *testImage, name string) string {
	d.t.Helper()
	dir := filepath.Join("/mnt", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := d.tryMount(img.id, dir); err != nil {
		d.t.Fatal(err)
	}
	return dir
}

// journal is longer than it takes ext4 to commit a transaction.
const journal = 8 * time.Second

// TestRebootKeepsWhatWasFetched ends the machine with images mounted. Nothing is fetched again after an orderly shutdown; after a power cut, only what was never given a name.
func TestRebootKeepsWhatWasFetched(t *testing.T) {
	_, boot := require.Boot(t)
	cfg := config(t, nil)
	cfg.Holder = outliving{}
	images := map[string]*testImage{}
	for i, name := range []string{"early", "primed", "nameless"} {
		images[name] = newImage(t, name, newBlob(t, 80+uint64(i), mixed...))
	}
	d := start(t, cfg, ondemand.Options{}, images["early"], images["primed"], images["nameless"])
	// read has all of an image read, and checks that nothing or all of it was fetched for that.
	read := func(name string, fresh bool) {
		t.Helper()
		img := images[name]
		began := time.Now()
		dir := d.leave(img, name)
		took := time.Since(began)
		verify(t, dir, img)
		n, all := fetched(img.blobs...), img.blobs[0].source.Size()
		t.Logf("measured: boot %d, image %s: mounted in %v, %d of %d bytes fetched", boot, name, took.Round(time.Millisecond), n, all)
		if fresh && n != all || !fresh && n != 0 {
			t.Errorf("image %s: %d of %d bytes were fetched in boot %d", name, n, all, boot)
		}
	}
	switch boot {
	case 1:
		read("early", true)
	case 2:
		read("early", false)
		began := time.Now()
		if err := d.tr.Prime(t.Context(), d.images[images["primed"].id]); err != nil {
			t.Fatal(err)
		}
		t.Logf("measured: names were given in %v", time.Since(began).Round(time.Millisecond))
		read("primed", true)
		read("nameless", true)
		time.Sleep(journal)
	case 3:
		read("early", false)
		read("primed", false)
		read("nameless", true)
	}
}
