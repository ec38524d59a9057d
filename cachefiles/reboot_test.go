package cachefiles

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/ondemand"
)

// keeperProcess holds the device in a process that lives on when the test has ended, as a keeper does.
type keeperProcess struct{ t *testing.T }

func (k keeperProcess) Hold(_ string, fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(dup), devicePath)
	defer func() { _ = file.Close() }()
	cmd := exec.Command("/bin/sleep", "3600")
	cmd.ExtraFiles = []*os.File{file}
	return cmd.Start()
}

func (k keeperProcess) Release(string) error { return nil }

// leave mounts the image where the mount stays when the test has ended, with nobody to serve it.
func (d *daemon) leave(img *testImage, dir string) {
	d.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := d.tryMount(img.id, dir); err != nil {
		d.t.Fatal(err)
	}
}

// TestRebootKeepsWhatWasFetched measures what is fetched again after a shutdown and after a power cut.
func TestRebootKeepsWhatWasFetched(t *testing.T) {
	_, boot := require.Boot(t)
	cfg := config(t, nil)
	cfg.Holder = keeperProcess{t}
	b, c := newBlob(t, 40, mixed...), newBlob(t, 41, mixed...)
	plain, primed := newImage(t, "plain", b), newImage(t, "primed", c)
	e := newBlob(t, 42, mixed...)
	first := newImage(t, "first", e)
	d := start(t, cfg, ondemand.Options{}, plain, primed, first)
	show := func(what string, b *testBlob) {
		t.Logf("measured: boot %d: %s: fetched %d of %d", boot, what, fetched(b), b.source.Size())
	}
	switch boot {
	case 1:
		d.leave(first, "/mnt/first")
		verify(t, "/mnt/first", first)
		show("first", e)
	case 2:
		d.leave(first, "/mnt/first")
		verify(t, "/mnt/first", first)
		show("first", e)
		d.leave(plain, "/mnt/plain")
		verify(t, "/mnt/plain", plain)
		d.leave(primed, "/mnt/primed")
		if err := kmount.Unmount("/mnt/primed", 0); err != nil {
			t.Fatal(err)
		}
		d.leave(primed, "/mnt/primed")
		verify(t, "/mnt/primed", primed)
		show("plain", b)
		show("primed", c)
		exec.Command("sleep", "12").Run()
	case 3:
		for dir, img := range map[string]*testImage{"/mnt/first": first, "/mnt/plain": plain, "/mnt/primed": primed} {
			d.leave(img, dir)
			verify(t, dir, img)
		}
		show("first", e)
		show("plain", b)
		show("primed", c)
	}
}
