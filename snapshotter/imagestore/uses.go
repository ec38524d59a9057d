package imagestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// gcLabel of an image's config keeps a snapshot of the snapshotter that ends the label.
const gcLabel = "containerd.io/gc.ref.snapshot."

// Uses is what needs the snapshotter, in all namespaces.
type Uses struct {
	Images     []Image     `json:"images"`
	Containers []Container `json:"containers"`
}

// Image is an image that is unpacked for the snapshotter.
type Image struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Missing   int    `json:"missing_layers"` // that are not in the content store
	Bytes     int64  `json:"missing_bytes"`

	target ocispec.Descriptor
	parts  []part
}

// Same reports whether two names stand for one image: Kubernetes has one by its tag, its digest and its ID.
func (i Image) Same(other Image) bool {
	return i.Namespace == other.Namespace && i.target.Digest == other.target.Digest
}

// part is an image for one platform, whose config keeps snapshots.
type part struct{ manifest, config ocispec.Descriptor }

// Container is a container whose root is a snapshot, whether it runs or not.
type Container struct {
	Namespace string `json:"namespace"`
	ID        string `json:"id"`
}

// Uses lists what needs the snapshotter.
func (s *Store) Uses(ctx context.Context) (uses Uses, err error) {
	all, err := s.client.NamespaceService().List(ctx)
	if err != nil {
		return uses, fmt.Errorf("list containerd's namespaces: %w", err)
	}
	slices.Sort(all)
	for _, name := range all {
		ctx := namespaces.WithNamespace(ctx, name)
		list, err := s.client.ImageService().List(ctx)
		if err != nil {
			return uses, fmt.Errorf("list containerd's images in %s: %w", name, err)
		}
		slices.SortFunc(list, func(a, b images.Image) int { return cmp.Compare(a.Name, b.Name) })
		for _, img := range list {
			i := Image{Namespace: name, Name: img.Name, target: img.Target}
			if err := s.inspect(ctx, &i, img.Target); err != nil {
				return uses, fmt.Errorf("look at image %s in %s: %w", img.Name, name, err)
			}
			if len(i.parts) > 0 {
				uses.Images = append(uses.Images, i)
			}
		}
		those, err := s.client.ContainerService().List(ctx)
		if err != nil {
			return uses, fmt.Errorf("list containerd's containers in %s: %w", name, err)
		}
		slices.SortFunc(those, func(a, b containers.Container) int { return cmp.Compare(a.ID, b.ID) })
		for _, c := range those {
			if c.Snapshotter == s.o.Snapshotter {
				uses.Containers = append(uses.Containers, Container{Namespace: name, ID: c.ID})
			}
		}
	}
	return uses, nil
}

// inspect adds to an image what it has below a descriptor. What was not fetched of an index is for other platforms.
func (s *Store) inspect(ctx context.Context, i *Image, desc ocispec.Descriptor) error {
	store := s.client.ContentStore()
	children, err := images.Children(ctx, store, desc)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if images.IsIndexType(desc.MediaType) {
		for _, child := range children {
			if err := s.inspect(ctx, i, child); err != nil {
				return err
			}
		}
		return nil
	}
	at := slices.IndexFunc(children, func(d ocispec.Descriptor) bool { return images.IsConfigType(d.MediaType) })
	if at < 0 {
		return nil // an artifact of another kind
	}
	config, err := store.Info(ctx, children[at].Digest)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if config.Labels[gcLabel+s.o.Snapshotter] == "" {
		return nil
	}
	i.parts = append(i.parts, part{desc, children[at]})
	for _, child := range children {
		if !images.IsLayerType(child.MediaType) {
			continue
		}
		if _, err := store.Info(ctx, child.Digest); errdefs.IsNotFound(err) {
			i.Missing++
			i.Bytes += child.Size
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Hand gives an image to another snapshotter: its layers are fetched, where they are missing, verified and unpacked for that one, and ours need not keep it any more.
func (s *Store) Hand(ctx context.Context, i Image, to string) error {
	ctx = namespaces.WithNamespace(ctx, i.Namespace)
	if err := s.hand(ctx, i, to); err != nil {
		return fmt.Errorf("unpack %s in %s for %s: %w", i.Name, i.Namespace, to, err)
	}
	return nil
}

func (s *Store) hand(ctx context.Context, i Image, to string) error {
	m, label := &meter{progress: s.o.Progress}, gcLabel+s.o.Snapshotter
	for _, p := range i.parts {
		if i.Missing > 0 {
			if err := s.fetch(ctx, images.Image{Name: i.Name, Target: i.target}, p.manifest, platforms.All, m); err != nil {
				return err
			}
		}
		img := images.Image{Name: i.Name, Target: p.manifest}
		if err := containerd.NewImageWithPlatform(s.client, img, platforms.All).Unpack(ctx, to); err != nil {
			return err
		}
		info := content.Info{Digest: p.config.Digest, Labels: map[string]string{label: ""}}
		if _, err := s.client.ContentStore().Update(ctx, info, "labels."+label); err != nil {
			return err
		}
	}
	return nil
}

// Reach makes sure that the snapshotter answers containerd, if that knows it: it would forget snapshots that nobody removes then. It tries in a namespace with a snapshot that is gone afterwards.
func (s *Store) Reach(ctx context.Context, namespace string) error {
	ctx, done, err := s.client.WithLease(namespaces.WithNamespace(ctx, namespace))
	if err != nil {
		return err
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }() // it ends by itself a day later
	snapshotter, key := s.client.SnapshotService(s.o.Snapshotter), "reach "+rand.Text()
	_, err = snapshotter.Prepare(ctx, key, "")
	if isUnknown(err) {
		return nil
	}
	if err == nil {
		err = snapshotter.Remove(context.WithoutCancel(ctx), key)
	}
	if err != nil {
		return fmt.Errorf("reach the snapshotter %s through containerd: %w", s.o.Snapshotter, err)
	}
	return nil
}

// isUnknown reports whether containerd does not know a snapshotter, or not any more.
func isUnknown(err error) bool { return errdefs.IsInvalidArgument(err) || errdefs.IsNotFound(err) }

// Remove removes an image.
func (s *Store) Remove(ctx context.Context, i Image) error {
	ctx = namespaces.WithNamespace(ctx, i.Namespace)
	if err := s.client.ImageService().Delete(ctx, i.Name); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove %s from %s: %w", i.Name, i.Namespace, err)
	}
	return nil
}

// Empty has containerd collect garbage, and makes sure that the snapshotter has nothing left then.
func (s *Store) Empty(ctx context.Context) error {
	all, err := s.client.NamespaceService().List(ctx)
	if err != nil {
		return fmt.Errorf("list containerd's namespaces: %w", err)
	}
	for _, name := range all {
		ctx := namespaces.WithNamespace(ctx, name)
		if err := s.collect(ctx); err != nil {
			return fmt.Errorf("have containerd collect garbage: %w", err)
		}
		var left []string
		err := s.client.SnapshotService(s.o.Snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
			left = append(left, info.Name)
			return nil
		})
		if isUnknown(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list snapshots in %s: %w", name, err)
		}
		if len(left) > 0 {
			return fmt.Errorf("namespace %s still has %d snapshots that nobody removes, among them %s: remove them with \"ctr -n %s snapshots --snapshotter %s rm\"",
				name, len(left), left[0], name, s.o.Snapshotter)
		}
	}
	return nil
}

// collect waits for a garbage collection: the end of a lease can be told to do so.
func (s *Store) collect(ctx context.Context) error {
	l, err := s.client.LeasesService().Create(ctx, leases.WithRandomID())
	if err != nil {
		return err
	}
	return s.client.LeasesService().Delete(ctx, l, leases.SynchronousDelete)
}
