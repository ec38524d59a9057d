package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// imageRoot is where the Go toolchain lies in the image, as in the official one.
const imageRoot = "usr/local/go"

// builtImage describes an image that buildImage wrote.
type builtImage struct {
	layout     string // directory, an OCI layout
	compressed int64  // bytes of all layers as they are pulled
	unpacked   int64  // bytes of the files in them
}

// layer is one layer as it was written.
type layer struct {
	desc     v1.Descriptor
	diffID   digest.Digest
	unpacked int64
}

// buildImage writes the Go toolchain at goroot as an OCI image of two gzip layers, programs below sources, into the new directory layout.
// The same toolchain gives the same image.
func buildImage(ctx context.Context, goroot, layout string) (builtImage, error) {
	blobs := filepath.Join(layout, v1.ImageBlobsDir, string(digest.SHA256))
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return builtImage{}, fmt.Errorf("make image layout: %w", err)
	}
	programs := []string{"bin", "pkg"}
	var layers [2]layer
	group, ctx := errgroup.WithContext(ctx)
	for i, keep := range []func(top string) bool{
		func(top string) bool { return slices.Contains(programs, top) },
		func(top string) bool { return !slices.Contains(programs, top) },
	} {
		group.Go(func() (err error) {
			layers[i], err = writeLayer(ctx, blobs, goroot, keep)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return builtImage{}, fmt.Errorf("build image from %s: %w", goroot, err)
	}
	built := builtImage{layout: layout}
	for _, l := range layers {
		built.compressed += l.desc.Size
		built.unpacked += l.unpacked
	}
	if err := writeManifest(layout, blobs, layers[:]); err != nil {
		return builtImage{}, fmt.Errorf("write image manifest: %w", err)
	}
	return built, nil
}

// writeLayer writes what lies below the chosen entries of goroot as a gzip layer named by its digest.
func writeLayer(ctx context.Context, blobs, goroot string, keep func(top string) bool) (layer, error) {
	file, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return layer{}, err
	}
	defer file.Close()
	compressed, plain := digest.SHA256.Digester(), digest.SHA256.Digester()
	gz := gzip.NewWriter(io.MultiWriter(file, compressed.Hash()))
	archive := tar.NewWriter(io.MultiWriter(gz, plain.Hash()))
	unpacked, err := addTree(ctx, archive, goroot, keep)
	if err != nil {
		return layer{}, err
	}
	if err := archive.Close(); err != nil {
		return layer{}, err
	}
	if err := gz.Close(); err != nil {
		return layer{}, err
	}
	size, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return layer{}, err
	}
	if err := file.Close(); err != nil {
		return layer{}, err
	}
	desc := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: compressed.Digest(), Size: size}
	return layer{desc, plain.Digest(), unpacked}, os.Rename(file.Name(), filepath.Join(blobs, desc.Digest.Encoded()))
}

// addTree appends imageRoot with its parents and the chosen entries of goroot, in the order of their names, and returns the bytes of the files.
func addTree(ctx context.Context, archive *tar.Writer, goroot string, keep func(top string) bool) (unpacked int64, err error) {
	for _, dir := range []string{"usr/", "usr/local/"} {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return 0, err
		}
	}
	err = filepath.WalkDir(goroot, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(goroot, path)
		if err != nil {
			return err
		}
		if top, _, _ := strings.Cut(rel, "/"); rel != "." && !keep(top) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		n, err := addFile(archive, path, filepath.Join(imageRoot, rel), entry)
		unpacked += n
		return err
	})
	return unpacked, err
}

// addFile appends one file, owned by root and without what differs from machine to machine.
func addFile(archive *tar.Writer, path, name string, entry fs.DirEntry) (int64, error) {
	info, err := entry.Info()
	if err != nil {
		return 0, err
	}
	var target string
	if info.Mode().Type() == fs.ModeSymlink {
		if target, err = os.Readlink(path); err != nil {
			return 0, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	header.ModTime = info.ModTime().Truncate(time.Second)
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return io.Copy(archive, file)
}

// writeManifest completes the layout with configuration, manifest and index.
func writeManifest(layout, blobs string, layers []layer) error {
	image := v1.Image{
		Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   v1.ImageConfig{Env: []string{"PATH=/" + imageRoot + "/bin:/usr/bin:/bin"}, Cmd: []string{"go", "version"}},
		RootFS:   v1.RootFS{Type: "layers"},
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, l := range layers {
		image.RootFS.DiffIDs = append(image.RootFS.DiffIDs, l.diffID)
		manifest.Layers = append(manifest.Layers, l.desc)
	}
	var err error
	if manifest.Config, err = writeJSON(blobs, v1.MediaTypeImageConfig, image); err != nil {
		return err
	}
	desc, err := writeJSON(blobs, v1.MediaTypeImageManifest, manifest)
	if err != nil {
		return err
	}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{desc},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(layout, v1.ImageIndexFile), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(layout, v1.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+v1.ImageLayoutVersion+`"}`), 0o644)
}

// writeJSON stores a value as a blob and returns its descriptor.
func writeJSON(blobs, mediaType string, value any) (v1.Descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return v1.Descriptor{}, err
	}
	desc := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, os.WriteFile(filepath.Join(blobs, desc.Digest.Encoded()), data, 0o644)
}
