package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAHostileNeighbourKeepsNobodyFromTheirBytes mounts an image whose source objects then turn out to be something else, and after it another with the same blobs, or the same one, from a place that has
// them.
func TestAHostileNeighbourKeepsNobodyFromTheirBytes(t *testing.T) {
	beside(t)
	for name, tag := range map[string]string{"another image with its blobs": "-2", "the same image": ""} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			l := newLab(t)
			tree := l.tree(1)
			ref := l.layout(tree)
			before, err := os.Stat(tree)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tree, "more"), bytes.Repeat([]byte("more "), 50_000), 0o644); err != nil {
				t.Fatal(err)
			}
			if said := l.pagein("convert", "dir:"+tree, ref+"-2", "--dict", ref); !strings.Contains(said, "borrowed: ") {
				t.Fatalf("nothing is borrowed: %s", said)
			}
			if err := errors.Join(os.Remove(filepath.Join(tree, "more")), os.Chtimes(tree, before.ModTime(), before.ModTime())); err != nil {
				t.Fatal(err)
			}
			dir, _, _ := strings.Cut(strings.TrimPrefix(ref, "oci:"), ":")
			hostile := filepath.Join(l.dir, "hostile")
			if err := os.CopyFS(hostile, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			l.start()
			l.mount(strings.Replace(ref, dir, hostile, 1)+tag, "hostile")
			blobs, err := filepath.Glob(filepath.Join(hostile, "blobs", "sha256", "*"))
			if err != nil || len(blobs) == 0 {
				t.Fatalf("%v, %v", blobs, err)
			}
			for _, path := range blobs {
				st, err := os.Stat(path)
				if err == nil {
					err = os.WriteFile(path, make([]byte, st.Size()), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			l.readAll(tree, l.mount(ref, "good"))
		})
	}
}
