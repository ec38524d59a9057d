package kmount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

func TestMain(m *testing.M) {
	Init()
	if image, ok := os.LookupEnv(mountingEnv); ok {
		if err := mountOverAndOver(image); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// mountable returns an image file and an empty directory on which whatever gets mounted is taken off at the end.
func mountable(t *testing.T) (image, target string) {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	err := ProbeFileBacked(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		require.Feature(t, false, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	image, target = filepath.Join(dir, "image"), filepath.Join(dir, "a target\twith \\ and #")
	if err := os.WriteFile(image, EmptyImage(), 0o600); err != nil {
		t.Fatal(err)
	}
	return image, directoryFor(t, target)
}

func directoryFor(t *testing.T, target string) string {
	t.Helper()
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(target, unix.MNT_DETACH) == nil {
		}
	})
	return target
}

func TestMountedImageIsFoundAndGoesAway(t *testing.T) {
	image, target := mountable(t)
	if _, ok, err := Lookup(target); ok || err != nil {
		t.Fatalf("before the mount: found %v, %v", ok, err)
	}
	if err := Mount(t.Context(), EROFS{Source: image}, target); err != nil {
		t.Fatal(err)
	}
	m, ok, err := Lookup(target)
	if !ok || err != nil {
		t.Fatalf("after the mount: found %v, %v", ok, err)
	}
	if m.Target != target || m.Type != "erofs" || m.Source != image || m.Root != "/" || !strings.HasPrefix(m.Options, "ro") {
		t.Errorf("unexpected mount: %+v", m)
	}
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	var listed bool
	for _, l := range list {
		listed = listed || l == m
	}
	if !listed {
		t.Errorf("List misses %+v", m)
	}
	link := image + "-link"
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(link, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("unmount through a symlink: %v, want EINVAL", err)
	}
	if err := Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := Lookup(target); ok || err != nil {
		t.Fatalf("after unmounting: found %v, %v", ok, err)
	}
	if err := Unmount(target, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("second unmount: %v, want EINVAL", err)
	}
}

// bind makes another mount of what is mounted on from.
func bind(t *testing.T, from, target string) {
	t.Helper()
	m, ok, err := Lookup(from)
	if err != nil || !ok {
		t.Fatalf("look up %s: %v, %v", from, ok, err)
	}
	d, err := Clone(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Attach(target), d.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestAMountThatIsNotAttachedGoesWithItsDescriptor(t *testing.T) {
	image, target := mountable(t)
	d, err := Open(t.Context(), EROFS{Source: image})
	if err != nil {
		t.Fatal(err)
	}
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inotify)
	if _, err := unix.InotifyAddWatch(inotify, d.Path(), unix.IN_DELETE_SELF); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := Lookup(target); ok {
		t.Error("it is attached somewhere")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// The read returns when the superblock is gone.
	if n, err := unix.Read(inotify, make([]byte, 4096)); n == 0 || err != nil {
		t.Errorf("read %d bytes of events, %v", n, err)
	}
}

func TestACloneOfAnotherSuperblockIsRefused(t *testing.T) {
	image, target := mountable(t)
	if err := Mount(t.Context(), EROFS{Source: image}, target); err != nil {
		t.Fatal(err)
	}
	m, _, err := Lookup(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := Mount(t.Context(), EROFS{Source: image}, target); err != nil { // on top
		t.Fatal(err)
	}
	if d, err := Clone(m); err == nil {
		t.Errorf("got a clone of the mount on top: %v", d.Close())
	}
}

func TestBindSharesTheSuperblock(t *testing.T) {
	image, target := mountable(t)
	second := directoryFor(t, target+"2")
	if err := Mount(t.Context(), EROFS{Source: image}, target); err != nil {
		t.Fatal(err)
	}
	bind(t, target, second)
	a, _, _ := Lookup(target)
	b, ok, err := Lookup(second)
	if err != nil || !ok || a.Device != b.Device || a.ID == b.ID || b.Target != second {
		t.Errorf("bind mount %+v of %+v (%v)", b, a, err)
	}
}

func TestLookupSeesTheTopmostMount(t *testing.T) {
	image, target := mountable(t)
	other := image + "2"
	if err := os.WriteFile(other, EmptyImage(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{image, other} {
		if err := Mount(t.Context(), EROFS{Source: source}, target); err != nil {
			t.Fatal(err)
		}
		if m, _, err := Lookup(target); m.Source != source || err != nil {
			t.Errorf("topmost is %+v (%v), want %s", m, err, source)
		}
	}
}

func TestRefusalsSayWhatAndWhy(t *testing.T) {
	image, target := mountable(t)
	bad := image + "-bad"
	if err := os.WriteFile(bad, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		spec   EROFS
		target string
		errno  error
		words  string
	}{
		{"no superblock", EROFS{Source: bad}, target, unix.EINVAL, bad},
		{"no image", EROFS{Source: image + "-none"}, target, unix.ENOENT, "fsconfig create"},
		{"no target", EROFS{Source: image}, target + "-none", os.ErrNotExist, target + "-none"},
		{"target is a file", EROFS{Source: image}, image, unix.ENOTDIR, image},
		{"devices that the image lacks", EROFS{Source: image, Devices: []string{bad}}, target, unix.EINVAL, "dmesg"},
		{"nothing to mount", EROFS{}, target, nil, "neither a source file nor an fsid"},
		{"fsid with devices", EROFS{Fsid: "x", Devices: []string{"y"}}, target, nil, "device table"},
		{"domain without fsid", EROFS{Source: image, Domain: "d"}, target, nil, "needs an fsid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Mount(t.Context(), c.spec, c.target)
			if err == nil || !strings.Contains(err.Error(), c.words) || c.errno != nil && !errors.Is(err, c.errno) {
				t.Errorf("got %v, want %v and %q", err, c.errno, c.words)
			}
			t.Log(err)
		})
	}
	if _, ok, _ := Lookup(target); ok {
		t.Error("a refused mount is there")
	}
}

func TestRefusalCarriesTheKernelsWords(t *testing.T) {
	_, target := mountable(t)
	if ProbeFscache() == nil {
		t.Skip("this kernel has EROFS over fscache: it does not refuse the option fsid")
	}
	err := Mount(t.Context(), EROFS{Fsid: "x"}, target)
	if err == nil || !strings.Contains(err.Error(), "(kernel: ") || !strings.Contains(err.Error(), "fsid") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

func TestMountTakesManyDevices(t *testing.T) {
	image, target := mountable(t)
	// The image has no devices, so the kernel must refuse; but only at the end, after all options were accepted.
	devices := make([]string, 128)
	for i := range devices {
		devices[i] = "/nowhere/" + strings.Repeat("long", 60)
	}
	err := Mount(t.Context(), EROFS{Source: image, Devices: devices}, target)
	var refused *Error
	if !errors.As(err, &refused) || refused.Step != "fsconfig create" {
		t.Errorf("got %v, want a refusal by fsconfig create", err)
	}
}

func TestEndedContextEndsTheMount(t *testing.T) {
	require.Root(t)
	dir := t.TempDir()
	// Opening a FIFO as the image blocks (killably) until a writer comes: a mount that waits for somebody.
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	target := directoryFor(t, filepath.Join(dir, "target"))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := Mount(ctx, EROFS{Source: fifo}, target)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if err == nil || !strings.Contains(err.Error(), "child killed") {
		t.Errorf("got %v, want the child killed", err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("returned after %v", d)
	}
	if err := Mount(ctx, EROFS{Source: fifo}, target); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with an ended context: %v", err)
	}
}

// TestProbesBlameTheDiskForWhatIsTheDisks tries a file system without space, which says nothing of the kernel, and of which the type would not do either.
func TestProbesBlameTheDiskForWhatIsTheDisks(t *testing.T) {
	dir := directoryFor(t, filepath.Join(t.TempDir(), "full"))
	require.Root(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ProbeFileBacked(dir); !errors.Is(err, unix.ENOSPC) || errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "for want of space") {
		t.Errorf("on a full disk: %v", err)
	}
	if needs := NeedsDisk(dir, "Linux 99"); !strings.Contains(needs, "ext4, xfs or btrfs") || strings.Contains(needs, "Linux") {
		t.Errorf("on tmpfs it needs %s", needs)
	}
}

func TestProbesAreConclusiveAndLeaveNothing(t *testing.T) {
	require.Root(t)
	before, err := List()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, probe := range map[string]func() error{
		"file-backed": func() error { return ProbeFileBacked(dir) },
		"fscache":     ProbeFscache,
	} {
		err := probe()
		var missing *UnsupportedError
		if err != nil && !errors.As(err, &missing) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v is not ErrUnsupported", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
	if err := ProbeFileBacked("/dev/shm"); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("on tmpfs: %v", err)
	}
	after, err := List()
	if err != nil || len(after) != len(before) {
		t.Errorf("mounts before %v, after %v (%v)", before, after, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
