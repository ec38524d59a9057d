package inputs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pagein/pagein/bench/lab"
)

// Layer writes the tar of a layer.
type Layer func(ctx context.Context, w io.Writer) error

// Command is the layer that a program prints.
func Command(name string, args ...string) Layer {
	return func(ctx context.Context, w io.Writer) error {
		cmd := lab.Command(ctx, name, args...)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, bytes.TrimSpace(stderr.Bytes()))
		}
		return nil
	}
}

// WriteImage writes an image of layers compressed with gzip -6 into the directory layout, an OCI layout, and returns the size of its compressed layers in
// bytes. The same layers give the same image.
func WriteImage(ctx context.Context, layout string, config v1.ImageConfig, layers ...Layer) (compressed int64, err error) {
	blobs := filepath.Join(layout, v1.ImageBlobsDir, string(digest.SHA256))
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return 0, fmt.Errorf("make image layout: %w", err)
	}
	image := v1.Image{
		Platform: v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   config,
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: make([]digest.Digest, len(layers))},
	}
	manifest := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: make([]v1.Descriptor, len(layers))}
	group, ctx := errgroup.WithContext(ctx)
	for i, layer := range layers {
		group.Go(func() (err error) {
			if manifest.Layers[i], image.RootFS.DiffIDs[i], err = writeLayer(ctx, blobs, layer); err != nil {
				err = fmt.Errorf("write layer %d: %w", i, err)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	for _, desc := range manifest.Layers {
		compressed += desc.Size
	}
	if err := writeManifest(layout, blobs, image, manifest); err != nil {
		return 0, fmt.Errorf("write image manifest: %w", err)
	}
	return compressed, nil
}

// writeLayer writes a gzip layer named by its digest, and returns its diff ID, too.
func writeLayer(ctx context.Context, blobs string, layer Layer) (v1.Descriptor, digest.Digest, error) {
	file, err := os.CreateTemp(blobs, "layer-")
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer file.Close()
	compressed, plain := digest.SHA256.Digester(), digest.SHA256.Digester()
	size, err := Gzip(ctx, io.MultiWriter(file, compressed.Hash()), func(ctx context.Context, w io.Writer) error {
		return layer(ctx, io.MultiWriter(w, plain.Hash()))
	})
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	desc := v1.Descriptor{MediaType: v1.MediaTypeImageLayerGzip, Digest: compressed.Digest(), Size: size}
	return desc, plain.Digest(), os.Rename(file.Name(), filepath.Join(blobs, desc.Digest.Encoded()))
}

// Gzip writes a layer as gzip -6 compresses it, and returns the number of bytes.
func Gzip(ctx context.Context, w io.Writer, layer Layer) (int64, error) {
	cmd := exec.CommandContext(ctx, "gzip", "-6n")
	counted := &counter{w: w}
	cmd.Stdout = counted
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err = errors.Join(layer(ctx, in), in.Close())
	return counted.n, errors.Join(err, cmd.Wait())
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// writeManifest completes the layout with configuration, manifest and index.
func writeManifest(layout, blobs string, image v1.Image, manifest v1.Manifest) (err error) {
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
