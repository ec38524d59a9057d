package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// fakeGoroot makes a tree with the outline of a Go toolchain.
func fakeGoroot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"VERSION": "go1.0\n", "bin/go": "#!/bin/sh\n", "pkg/tool/compile": "program", "src/fmt/print.go": "package fmt\n", "test/empty": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "bin/go"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("fmt", filepath.Join(root, "src/link")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestImageIsValidAndHoldsTheToolchain(t *testing.T) {
	built, err := buildImage(t.Context(), fakeGoroot(t), filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(built.layout)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("index of %d images, error %v; want one", len(manifest.Manifests), err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Errorf("go-containerregistry finds the image invalid: %v", err)
	}

	want := map[string]string{
		"usr/local/go/VERSION": "go1.0\n", "usr/local/go/bin/go": "#!/bin/sh\n", "usr/local/go/pkg/tool/compile": "program",
		"usr/local/go/src/fmt/print.go": "package fmt\n", "usr/local/go/test/empty": "", "usr/local/go/src/link": "-> fmt",
	}
	files := mutate.Extract(image)
	defer files.Close()
	for archive := tar.NewReader(files); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		got := string(data)
		if header.Typeflag == tar.TypeSymlink {
			got = "-> " + header.Linkname
		}
		if text, ok := want[header.Name]; !ok || text != got {
			t.Errorf("%s: %q, want %q", header.Name, got, text)
		}
		if executable := header.Mode&0o111 != 0; executable != (header.Name == "usr/local/go/bin/go") && header.Typeflag == tar.TypeReg {
			t.Errorf("%s: mode %o", header.Name, header.Mode)
		}
		delete(want, header.Name)
	}
	if len(want) > 0 {
		t.Errorf("not in the image: %v", want)
	}
}

func TestSameToolchainGivesTheSameImage(t *testing.T) {
	goroot := fakeGoroot(t)
	var indexes [2]string
	for i := range indexes {
		built, err := buildImage(t.Context(), goroot, filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		index, err := os.ReadFile(filepath.Join(built.layout, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		indexes[i] = string(index)
	}
	if indexes[0] != indexes[1] {
		t.Errorf("two builds differ:\n%s\n%s", indexes[0], indexes[1])
	}
}
