package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
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

// writeIndex makes a layout of a directory with blobs: one of the image that desc describes.
func writeIndex(dir string, desc ocispec.Descriptor) error {
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}})
	if err != nil {
		return err
	}
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, ocispec.ImageIndexFile), index, 0o644), os.WriteFile(filepath.Join(dir, ocispec.ImageLayoutFile), version, 0o644))
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
