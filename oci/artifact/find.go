package artifact

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
)

// Find opens the place that ref names and loads from there what [Place.Find] finds.
func Find(ctx context.Context, client *registry.Client, ref oci.Ref, platform *ocispec.Platform) (Place, *Artifact, error) {
	place, err := Open(client, ref)
	if err != nil {
		return place, nil, err
	}
	a, err := place.Find(ctx, ref, platform)
	return place, a, err
}

// Find loads the artifact that ref means: the one that it names or, if it names an image in a registry, the last one that is attached to that image. The
// platform, nil meaning Linux on this machine's architecture, chooses from an index. If there is no artifact, the error is [ErrNotArtifact].
func (p Place) Find(ctx context.Context, ref oci.Ref, platform *ocispec.Platform) (*Artifact, error) {
	a, err := p.Load(ctx, ref)
	if !errors.Is(err, ErrNotArtifact) || p.Repository == nil {
		return a, err
	}
	desc, findErr := attached(ctx, p, ref, platform)
	if findErr != nil {
		return nil, findErr
	}
	if desc == nil {
		return nil, fmt.Errorf("%w; no artifact is attached to it", err)
	}
	named := oci.Ref{Kind: ref.Kind, Host: ref.Host, Repository: ref.Repository, Digest: desc.Digest}
	return Load(ctx, p.Target(), *desc, named.String())
}

// attached returns the artifact that belongs to an image, nil if there is none. Of several it is the one that the registry lists last: who converts an image again wants that one to be
// used, and in the list that a tag names, which clients write, it comes last. Registries with the referrers API may have another order. Each of them shows the image.
func attached(ctx context.Context, place Place, ref oci.Ref, platform *ocispec.Platform) (*ocispec.Descriptor, error) {
	desc, err := place.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if desc, err = image.Choose(ctx, place.Target(), desc, platform); err != nil {
		return nil, fmt.Errorf("find the image that %s names: %w", ref, err)
	}
	list, err := place.Attached(ctx, desc)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[len(list)-1], nil
}
