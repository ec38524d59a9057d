package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/images/converter"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/containerd/stargz-snapshotter/estargz"
	converterestargz "github.com/containerd/stargz-snapshotter/nativeconverter/estargz"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// estargzImage converts with the converter and the options of ctr-remote, in a content store of containerd's kind in dir, which holds links to
// the image's blobs. As after a pull, the store knows the layers' diff IDs. It becomes an image layout.
func estargzImage(ctx context.Context, image, dir string) error {
	l, err := openLayout(image)
	if err != nil {
		return err
	}
	known := &labelStore{of: map[digest.Digest]map[string]string{}}
	store, err := local.NewLabeledStore(dir, known)
	if err != nil {
		return err
	}
	blobs := []ocispec.Descriptor{l.desc, l.manifest.Config}
	for i, layer := range l.manifest.Layers {
		blobs = append(blobs, layer)
		known.of[layer.Digest] = map[string]string{labels.LabelUncompressed: l.config.RootFS.DiffIDs[i].String()}
	}
	for _, desc := range blobs {
		source, err := filepath.Abs(l.blob(desc.Digest))
		if err != nil {
			return err
		}
		link := (&layout{dir: dir}).blob(desc.Digest)
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(source, link)); err != nil {
			return err
		}
	}
	layer := converterestargz.LayerConvertFunc(estargz.WithCompressionLevel(gzip.BestCompression))
	converted, err := converter.DefaultIndexConvertFunc(layer, true, platforms.All)(ctx, store, l.desc)
	if err != nil {
		return err
	}
	if converted == nil {
		return errors.New("nothing was converted")
	}
	var manifest ocispec.Manifest
	if err := readJSON((&layout{dir: dir}).blob(converted.Digest), &manifest); err != nil {
		return err
	}
	total := manifest.Config.Size + converted.Size
	for _, layer := range manifest.Layers {
		total += layer.Size
	}
	fmt.Println(total)
	return writeIndex(dir, *converted)
}

// labelStore keeps labels of content in memory.
type labelStore struct {
	mu sync.Mutex
	of map[digest.Digest]map[string]string
}

func (s *labelStore) Get(d digest.Digest) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.of[d]), nil
}

func (s *labelStore) Set(d digest.Digest, l map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[d] = maps.Clone(l)
	return nil
}

func (s *labelStore) Update(d digest.Digest, l map[string]string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	merged := maps.Clone(s.of[d])
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, l)
	maps.DeleteFunc(merged, func(_, v string) bool { return v == "" })
	s.of[d] = merged
	return maps.Clone(merged), nil
}
