// Package difftest lets everybody who can read EROFS say whether an image is what it was made from: the kernel, fsck.erofs, go-erofs and
// our own reader, against a directory that holds the source.
//
// The package's tests do so for whole systems, odd trees, random trees and random stacks of layers, which containerd's unpacking under
// overlayfs judges too. Random things depend on seeds that a failure prints.
package difftest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

// Image is an EROFS image in files.
type Image struct {
	Path    string
	Devices []string // extra devices in the order of their slots
}

// Options of [Agree].
type Options struct {
	treetest.Options
	// Holes says that the image must have a hole wherever the source has one.
	Holes bool
}

// Agree fails the test unless the kernel, fsck.erofs, go-erofs and our own reader find the same in an image as is in the directory source:
// names, types, permissions, owners, times to the nanosecond, groups and numbers of hard links, extended attributes, device numbers, targets
// of symbolic links, sizes, contents. Sockets of the source are passed over.
func Agree(t testing.TB, source string, img Image, o Options) {
	t.Helper()
	Check(t, img)
	mounted := Mount(t, img)
	treetest.CompareWith(t, source, mounted, o.Options)
	linksAreCounted(t, mounted)
	if o.Holes {
		holesStay(t, source, mounted)
	}
	want := describe(t, source, o.Options)
	want.compare(t, "go-erofs", openGoErofs(t, img))
	want.compare(t, "package erofs", openErofs(t, img))
}

// Check lets fsck.erofs judge an image.
func Check(t testing.TB, img Image) {
	t.Helper()
	var args []string
	for _, d := range img.Devices {
		args = append(args, "--device="+d)
	}
	if out, err := exec.Command(require.Tool(t, "fsck.erofs"), append(args, img.Path)...).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs %s: %v\n%s", img.Path, err, out)
	}
}

// Mount mounts an image until the test ends and returns the directory.
func Mount(t testing.TB, img Image) string {
	t.Helper()
	return erofstest.Mount(t, img.Path, shortNames(t, img.Devices)...)
}

// Overlay mounts directories as layers of overlayfs, the bottom one first, until the test ends, and returns the directory.
func Overlay(t testing.TB, layers ...string) string {
	t.Helper()
	require.Root(t)
	dir, lower := mountpoint(t), shortNames(t, layers)
	slices.Reverse(lower)
	if len(lower) == 1 { // overlayfs wants two
		lower = append(lower, shortNames(t, []string{t.TempDir()})...)
	}
	err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":"))
	require.Feature(t, err != unix.ENODEV, "overlayfs")
	if err != nil {
		t.Fatalf("mount overlayfs of %q: %v", layers, err)
	}
	unmountAtEnd(t, dir)
	return dir
}

// shortNames returns other names for paths, so that more of them fit into the 4 KiB that options of mount(2) can have, and none has a comma.
func shortNames(t testing.TB, paths []string) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pagein-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	short := make([]string, len(paths))
	for i, p := range paths {
		short[i] = filepath.Join(dir, fmt.Sprint(i))
		if err := os.Symlink(p, short[i]); err != nil {
			t.Fatal(err)
		}
	}
	return short
}

// Scratch returns an empty directory that goes away with the test. It is in memory if it can be: there, making and removing many small files
// takes a fraction of the time.
func Scratch(t testing.TB) string {
	t.Helper()
	dir := mountpoint(t)
	if unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755") != nil {
		return dir
	}
	unmountAtEnd(t, dir)
	probe := filepath.Join(dir, "probe")
	if os.Mkdir(probe, 0o755) != nil || unix.Setxattr(probe, "user.probe", nil, 0) != nil || os.Remove(probe) != nil { // before Linux 6.6
		return t.TempDir()
	}
	return dir
}

func mountpoint(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func unmountAtEnd(t testing.TB, dir string) {
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func openGoErofs(t testing.TB, img Image) reader {
	t.Helper()
	var opts []goerofs.OpenOpt
	for _, d := range img.Devices {
		opts = append(opts, goerofs.WithExtraDevices(open(t, d)))
	}
	fsys, err := goerofs.Open(open(t, img.Path), opts...)
	if err != nil {
		t.Fatalf("go-erofs: open %s: %v", img.Path, err)
	}
	return goErofsReader{fsys}
}

func openErofs(t testing.TB, img Image) reader {
	t.Helper()
	image := open(t, img.Path)
	info, err := image.Stat()
	if err != nil {
		t.Fatal(err)
	}
	devices := readersAt(t, img.Devices)
	fsys, err := erofs.Open(image, info.Size(), devices...)
	if err != nil {
		t.Fatalf("open %s: %v", img.Path, err)
	}
	return erofsReader{fsys}
}
