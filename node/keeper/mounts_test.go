package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
)

// mountPoints mounts a small EROFS image at the first of n directories.
func mountPoints(t *testing.T, n int) []string {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	if err := kmount.ProbeFileBacked(dir); errors.Is(err, errors.ErrUnsupported) {
		require.Feature(t, false, err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, kmount.EmptyImage(), 0o600); err != nil {
		t.Fatal(err)
	}
	var targets []string
	for i := range n {
		target := filepath.Join(dir, string(rune('a'+i)))
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
		targets = append(targets, target)
	}
	if err := kmount.Mount(t.Context(), kmount.EROFS{Source: image}, targets[0]); err != nil {
		t.Fatal(err)
	}
	return targets
}

// watchedMount returns an inotify instance that watches the superblock mounted at root.
func watchedMount(t *testing.T, root string) int {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	watch(t, fd, root)
	return fd
}

func watch(t *testing.T, fd int, root string) {
	t.Helper()
	// Some event must be named; a read-only root never raises this one.
	if _, err := unix.InotifyAddWatch(fd, root, unix.IN_DELETE_SELF|unix.IN_ONLYDIR); err != nil {
		t.Fatal(err)
	}
}

func wantWatches(t *testing.T, fd, want int, when string) {
	t.Helper()
	// A detached superblock may die a moment after the call that let go of it (task work, RCU).
	var n int
	var err error
	for end := time.Now().Add(await.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n, err = watches(fd); err != nil {
			t.Fatal(err)
		}
		if n == want {
			if want == 0 {
				return
			}
			// It must stay.
			time.Sleep(50 * time.Millisecond)
			if n, err = watches(fd); n == want && err == nil {
				return
			}
			break
		}
	}
	t.Fatalf("%s: %d watches (%v), want %d", when, n, err, want)
}

func TestWatchDiesWithTheSuperblockOnly(t *testing.T) {
	targets := mountPoints(t, 3)
	fd := watchedMount(t, targets[0])
	wantWatches(t, fd, 1, "mounted")
	for _, target := range targets[1:] {
		m, _, err := kmount.Lookup(targets[0])
		if err != nil {
			t.Fatal(err)
		}
		d, err := kmount.Clone(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Attach(target), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
	watch(t, fd, targets[1])
	wantWatches(t, fd, 1, "watched again through a bind mount")
	if err := kmount.Unmount(targets[0], 0); err != nil {
		t.Fatalf("the watch keeps the mount busy: %v", err)
	}
	wantWatches(t, fd, 1, "first mount gone, two bind mounts left")
	open, err := os.Open(targets[1])
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, target := range targets[1:] {
		if err := kmount.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	wantWatches(t, fd, 1, "no mount left, one open directory")
	open.Close()
	wantWatches(t, fd, 0, "everything closed")
	events := make([]byte, 4096)
	n, err := unix.Read(fd, events)
	if err != nil || n < 2*unix.SizeofInotifyEvent {
		t.Fatalf("read %d bytes of events: %v", n, err)
	}
	mask := func(at int) uint32 { return uint32(events[at+4]) | uint32(events[at+5])<<8 } // the mask's low half is enough
	if mask(0)&unix.IN_UNMOUNT == 0 || mask(unix.SizeofInotifyEvent)&unix.IN_IGNORED == 0 {
		t.Errorf("events are not IN_UNMOUNT and IN_IGNORED: %x", events[:n])
	}
}
