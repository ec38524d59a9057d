package imagestore

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
)

// Pulled is what became of an image.
type Pulled struct {
	Name    string        `json:"name"`
	Digest  digest.Digest `json:"digest"` // of what the name stands for
	Layers  []Layer       `json:"layers"` // bottom first
	Fetched int64         `json:"fetched_bytes"`
	Mounted bool          `json:"mounted"` // an artifact stands for its layers, whether they are in the content store or not
}

// Layer is a layer of an image for one platform.
type Layer struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size_bytes"` // as it is in the registry
	Content bool          `json:"content"`    // it is in containerd's content store
}

// Lazy is how many layers are not in the content store.
func (p *Pulled) Lazy() (n int) {
	for _, l := range p.Layers {
		if !l.Content {
			n++
		}
	}
	return n
}

// imageName is what an image is called in containerd.
func imageName(ref oci.Ref) string {
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = oci.DefaultTag
	}
	return ref.String()
}

// Pull has containerd pull an image for the snapshotter, which is told of which image each layer is: what an artifact stands for is not fetched. The image gets the name that ref has
// with its default tag.
func (s *Store) Pull(ctx context.Context, ref oci.Ref) (*Pulled, error) {
	ctx, name := s.in(ctx), imageName(ref)
	target, err := find(ctx, s.o.Registry, ref)
	if err != nil {
		return nil, fmt.Errorf("pull: %w", err)
	}
	m := &meter{progress: s.o.Progress}
	img, err := s.client.Pull(ctx, name,
		containerd.WithResolver(resolver{s.o.Registry, target, m}),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(s.o.Snapshotter),
		containerd.WithPlatformMatcher(s.platform()),
		containerd.WithMaxConcurrentDownloads(maxDownloads),
		containerd.WithDownloadLimiter(downloads()),
		containerd.WithImageHandlerWrapper(snapshotters.AppendInfoHandlerWrapper(name)),
	)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", name, s.explain(ctx, err))
	}
	return s.pulled(ctx, name, img.Target(), m)
}

// pulled looks at what there is of an image.
func (s *Store) pulled(ctx context.Context, name string, target ocispec.Descriptor, m *meter) (*Pulled, error) {
	store := s.client.ContentStore()
	manifest, err := images.Manifest(ctx, store, target, s.platform())
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", name, err)
	}
	p := &Pulled{Name: name, Digest: target.Digest, Fetched: m.total()}
	for _, l := range manifest.Layers {
		_, err := store.Info(ctx, l.Digest)
		if err != nil && !errdefs.IsNotFound(err) {
			return nil, err
		}
		p.Layers = append(p.Layers, Layer{Digest: l.Digest, Size: l.Size, Content: err == nil})
	}
	if p.Mounted, err = s.mounted(ctx, name, target); err != nil {
		return nil, fmt.Errorf("find out whether %s is unpacked: %w", name, err)
	}
	return p, nil
}

// mounted reports whether the snapshot of an image's topmost layer is one that was never unpacked: that has no inodes of its own, and every other one has its directory at least.
func (s *Store) mounted(ctx context.Context, name string, target ocispec.Descriptor) (bool, error) {
	img := containerd.NewImageWithPlatform(s.client, images.Image{Name: name, Target: target}, s.platform())
	diffs, err := img.RootFS(ctx)
	if err != nil || len(diffs) == 0 {
		return false, err
	}
	usage, err := s.client.SnapshotService(s.o.Snapshotter).Usage(ctx, identity.ChainID(diffs).String())
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && usage.Inodes == 0, err
}
