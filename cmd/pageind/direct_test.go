package main

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/node/control"
)

// readsDirectly reports whether the kernel reads what is mounted on target past the page cache of its files.
func readsDirectly(t *testing.T, target string) bool {
	t.Helper()
	m, ok, err := kmount.Lookup(target)
	if err != nil || !ok {
		t.Fatalf("nothing is mounted on %s: %v", target, err)
	}
	return m.ReadsDirectly()
}

// cachedPages counts the pages of a file that the kernel has in its page cache (cachestat(2), Linux 6.5).
func cachedPages(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole, stat := [2]uint64{}, [5]uint64{} // a length of 0 is all of the file; the first number is that of cached pages
	_, _, errno := unix.Syscall6(unix.SYS_CACHESTAT, f.Fd(), uintptr(unsafe.Pointer(&whole)), uintptr(unsafe.Pointer(&stat)), 0, 0, 0)
	if errno != 0 {
		t.Fatalf("cachestat: %v", errno)
	}
	return stat[0]
}

// TestACompleteImageIsInMemoryOnce reads an image until it is complete, and then again: the second time nothing comes into the page cache of its files, and read-ahead is that of the disk.
func TestACompleteImageIsInMemoryOnce(t *testing.T) {
	onHost(t)
	require.Feature(t, kmount.DirectIsSound(), "EROFS that can be asked to read past the page cache (Linux 6.12.72, 6.18.11, 7.0)")
	l := newLab(t)
	tree := l.bigFiles(enoughFiles...)
	ref := l.layout(tree)
	l.start("--transport", "fanotify")
	target := l.mount(ref, "a")
	l.read(target, "a")
	if readsDirectly(t, target) {
		t.Error("what is put into the files for the kernel is read past the page cache that it is put into")
	}
	l.readAll(tree, target)
	l.waitFor("the image to be read directly", func() bool { return readsDirectly(t, target) })
	if n := l.marks(); n != 0 {
		t.Errorf("%d marks are left, which direct reads could escape", n)
	}
	disk, err := kmount.DiskReadAhead(l.root)
	if err != nil {
		t.Logf("the disk's read-ahead is not known: %v", err)
	}
	for _, name := range l.status().Images[0].Backings {
		if kib, err := kmount.Backing(name).ReadAhead(); err != nil || kib < disk {
			t.Errorf("the kernel reads %d KiB ahead, on the disk %d KiB: %v", kib, disk, err)
		}
	}
	inMemoryOnce := func() {
		t.Helper()
		l.readAll(tree, target) // with an empty page cache
		for _, file := range l.blobFiles() {
			if n := cachedPages(t, file); n != 0 {
				t.Errorf("%d pages of %s are cached beside those of the image", n, file)
			}
		}
	}
	inMemoryOnce()

	l.stop(unix.SIGKILL)
	l.start("--transport", "fanotify")
	l.waitFor("the image to be taken up", func() bool { s := l.status(); return len(s.Images) == 1 && s.Images[0].State == control.Complete })
	inMemoryOnce()
	l.pagein("umount", target)
	l.pagein("mount", ref, target)
	if !readsDirectly(t, target) {
		t.Error("an image that is complete when it is mounted is not read directly at once")
	}
	inMemoryOnce()
}

// TestSmallFilesAreReadThroughTheirBlobsPageCache mounts a complete image of small files: the kernel is to read ahead from one into the next.
func TestSmallFilesAreReadThroughTheirBlobsPageCache(t *testing.T) {
	onHost(t)
	l := newLab(t)
	ref := l.layout(l.tree(1))
	l.start("--transport", "file")
	if readsDirectly(t, l.mount(ref, "a")) {
		t.Error("an image of small files is read past the page cache of its blob's file")
	}
}

// TestImagesThatShareBlobsShareTheirPageCache mounts two images of which one has all that the other has: the second is not to read from the disk what the first has read.
func TestImagesThatShareBlobsShareTheirPageCache(t *testing.T) {
	onHost(t)
	l := newLab(t)
	tree := l.bigFiles("a", "b")
	first := "oci:" + filepath.Join(l.dir, "shared") + ":1"
	second := "oci:" + filepath.Join(l.dir, "shared") + ":2"
	l.pagein("convert", "dir:"+tree, first)
	if err := os.WriteFile(filepath.Join(tree, "more"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.pagein("convert", "--dict", first, "dir:"+tree, second)
	l.start("--transport", "file")
	if alone := l.mount(first, "a"); kmount.DirectIsSound() && !readsDirectly(t, alone) {
		t.Error("an image that shares nothing with another one is not read directly")
	}
	target := l.mount(second, "b")
	if s := l.status(); len(s.Images) != 2 {
		t.Fatalf("%d images are mounted, not 2", len(s.Images))
	}
	l.readAll(tree, target)
	if readsDirectly(t, target) {
		t.Error("the second image reads the first one's files past their page cache")
	}
}
