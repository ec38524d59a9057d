package imagestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
)

// Complete fetches what is missing of an image that containerd has into its content store, verified. The snapshots stay as they are.
func (s *Store) Complete(ctx context.Context, name string) (*Pulled, error) {
	ctx = s.in(ctx)
	p, err := s.complete(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("fetch the layers of %s: %w", name, err)
	}
	return p, nil
}

func (s *Store) complete(ctx context.Context, name string) (*Pulled, error) {
	img, err := s.client.ImageService().Get(ctx, name)
	if err != nil {
		return nil, err
	}
	m := &meter{progress: s.o.Progress}
	if err := s.fetch(ctx, img, img.Target, s.platform(), m); err != nil {
		return nil, err
	}
	return s.pulled(ctx, name, img.Target, m)
}

// fetch fetches what is missing below a descriptor of an image, for one platform.
func (s *Store) fetch(ctx context.Context, img images.Image, desc ocispec.Descriptor, platform platforms.MatchComparer, m *meter) error {
	sources, err := s.sources(ctx, img)
	if err != nil {
		return err
	}
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }() // it ends by itself a day later
	var failed error
	for _, source := range sources {
		err := s.fetchFrom(ctx, source, desc, platform, m)
		if err == nil {
			return nil
		}
		if failed = errors.Join(failed, err); ctx.Err() != nil {
			break
		}
	}
	return failed
}

// fetchFrom fetches from where a name says that an image is. That it is there is noted of its content once all was found.
func (s *Store) fetchFrom(ctx context.Context, from string, desc ocispec.Descriptor, platform platforms.MatchComparer, m *meter) error {
	fetcher, err := resolver{s.o.Registry, desc, m}.Fetcher(ctx, from)
	if err != nil {
		return err
	}
	store := s.client.ContentStore()
	source, err := docker.AppendDistributionSourceLabel(store, from)
	if err != nil {
		return err
	}
	children := images.SetChildrenMappedLabels(store, images.ChildrenHandler(store), nil)
	children = images.LimitManifests(images.FilterPlatforms(children, platform), platform, 1)
	if err := images.Dispatch(ctx, images.Handlers(remotes.FetchHandler(store, fetcher), children), downloads(), desc); err != nil {
		return err
	}
	return images.Dispatch(ctx, images.Handlers(children, source), downloads(), desc)
}

// sources are the names under which an image may be found in a registry: those that containerd has for it, first the ones that it was pulled by. Kubernetes names images by digests, too, and
// anybody may give them names of places where they are not yet.
func (s *Store) sources(ctx context.Context, img images.Image) (names []string, err error) {
	all, err := s.client.ImageService().List(ctx)
	if err != nil {
		return nil, err
	}
	info, err := s.client.ContentStore().Info(ctx, img.Target.Digest)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, other := range all {
		if other.Target.Digest != img.Target.Digest || digest.Digest(other.Name).Validate() == nil {
			continue
		}
		ref, err := oci.ParseRef(other.Name)
		if err != nil || ref.Kind != oci.Registry {
			continue
		}
		host, _, _ := strings.Cut(ref.Host, ":") // so does containerd
		if pulled := strings.Split(info.Labels[labels.LabelDistributionSource+"."+host], ","); slices.Contains(pulled, ref.Repository) {
			names = append(names, other.Name)
		} else {
			others = append(others, other.Name)
		}
	}
	if names = append(names, others...); len(names) == 0 {
		return nil, fmt.Errorf("no name of %s says which registry has it", img.Target.Digest)
	}
	return names, nil
}
