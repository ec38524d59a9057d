package main

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/containerd/stargz-snapshotter/fs/source"
)

// stargz is the snapshotter that has labels of its own.
const stargz = "stargz"

// rpullPrefetch is how much of a layer "ctr-remote image rpull" has the snapshotter prefetch at most, in bytes. Nothing of a layer that was converted without
// knowing what it is used for.
const rpullPrefetch = 10 << 20

// pull pulls an image into a snapshotter: for stargz-snapshotter as "ctr-remote image rpull" does, for others as Kubernetes does, which says of which image each layer is.
func pull(ctx context.Context, client *containerd.Client, snapshotter, ref string) (containerd.Image, error) {
	var labels func(images.Handler) images.Handler
	if snapshotter == stargz {
		labels = source.AppendDefaultLabelsHandlerWrapper(ref, rpullPrefetch)
	} else {
		labels = snapshotters.AppendInfoHandlerWrapper(ref)
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost))})
	image, err := client.Pull(ctx, ref, containerd.WithResolver(resolver), containerd.WithPullUnpack, containerd.WithPullSnapshotter(snapshotter),
		containerd.WithImageHandlerWrapper(labels))
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	return image, nil
}
