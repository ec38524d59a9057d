package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAMountThatBorrowsEqualsItsSource mounts an image most of whose data is in the blobs of the version before, while that version is mounted too.
func TestAMountThatBorrowsEqualsItsSource(t *testing.T) {
	beside(t)
	for name, place := range map[string]func(*lab, string) string{"layout": (*lab).layout, "registry": (*lab).registry} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			l := newLab(t)
			tree := l.tree(1)
			first := place(l, tree)
			if err := os.WriteFile(filepath.Join(tree, "new in version 2"), bytes.Repeat([]byte("new "), 50_000), 0o644); err != nil {
				t.Fatal(err)
			}
			second := first + "-2"
			if said := l.pagein("convert", "dir:"+tree, second, "--dict", first); !strings.Contains(said, "borrowed: ") {
				t.Fatalf("nothing is borrowed: %s", said)
			}
			l.start()
			l.mount(first, "a")
			l.readAll(tree, l.mount(second, "b"))
		})
	}
}
