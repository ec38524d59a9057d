package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layout is an OCI image layout with one image in it.
type layout struct {
	dir      string
	desc     ocispec.Descriptor // of the manifest
	manifest ocispec.Manifest
	config   ocispec.Image
}

func openLayout(dir string) (*layout, error) {
	l := &layout{dir: dir}
	var index ocispec.Index
	if err := readJSON(filepath.Join(dir, ocispec.ImageIndexFile), &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) != 1 {
		return nil, fmt.Errorf("%s holds %d images, want one", dir, len(index.Manifests))
	}
	l.desc = index.Manifests[0]
	if err := readJSON(l.blob(l.desc.Digest), &l.manifest); err != nil {
		return nil, err
	}
	return l, readJSON(l.blob(l.manifest.Config.Digest), &l.config)
}

// blob is the path of a blob.
func (l *layout) blob(d digest.Digest) string {
	return filepath.Join(l.dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("parse %s: %w", path, err)
	}
	return nil
}
