package view

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/image"
	"github.com/pagein/pagein/oci/registry"
)

// Find loads the artifact that ref means: the one that it names or, if it names an image in a registry, the one that is attached to that image. The
// platform, nil meaning Linux on this machine's architecture, chooses from an index. If there is no artifact, the error is [artifact.ErrNotArtifact].
func Find(ctx context.Context, client *registry.Client, ref oci.Ref, platform *ocispec.Platform) (artifact.Place, *artifact.Artifact, error) {
	place, err := artifact.Open(client, ref)
	if err != nil {
		return place, nil, err
	}
	a, err := place.Load(ctx, ref)
	if !errors.Is(err, artifact.ErrNotArtifact) || place.Repository == nil {
		return place, a, err
	}
	desc, findErr := attached(ctx, place, ref, platform)
	if findErr != nil {
		return place, nil, findErr
	}
	if desc == nil {
		return place, nil, fmt.Errorf("%w; no artifact is attached to it", err)
	}
	named := oci.Ref{Kind: ref.Kind, Host: ref.Host, Repository: ref.Repository, Digest: desc.Digest}
	a, err = artifact.Load(ctx, place.Target(), *desc, named.String())
	return place, a, err
}

// attached returns the artifact that belongs to an image, nil if there is none.
func attached(ctx context.Context, place artifact.Place, ref oci.Ref, platform *ocispec.Platform) (*ocispec.Descriptor, error) {
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
	if len(list) > 1 {
		var digests []string
		for _, d := range list {
			digests = append(digests, d.Digest.String())
		}
		return nil, fmt.Errorf("%d artifacts are attached to %s: name one of them as %s/%s@DIGEST: %s",
			len(list), ref, ref.Host, ref.Repository, strings.Join(digests, ", "))
	}
	return &list[0], nil
}
