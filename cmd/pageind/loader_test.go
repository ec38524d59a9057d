package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTheLoaderIsFetchedBeforeAProgramRuns has nobody read anything.
func TestTheLoaderIsFetchedBeforeAProgramRuns(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("ld-2.31.so", "libc.so.6", "other")
	if err := os.Rename(tree, tree+"-lib64"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(tree, "lib64")
	if err := os.Rename(tree+"-lib64", lib); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("ld-2.31.so", filepath.Join(lib, "ld-linux-x86-64.so.2")); err != nil {
		t.Fatal(err)
	}
	l.start()
	target := l.mount(l.layout(tree), "0")
	l.waitFor("loader and C library", func() bool { return l.status().Images[0].PresentBytes >= 6<<20 })
	if s := l.status().Images[0]; s.PresentBytes > 7<<20 {
		t.Errorf("%d of %d bytes were fetched, though nobody read", s.PresentBytes, s.TotalBytes)
	}
	l.readAll(tree, target)
	l.pagein("umount", target)
}
