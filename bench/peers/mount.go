package main

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/stargz-snapshotter/fs/source"
	"github.com/opencontainers/image-spec/identity"
)

// rpullPrefetch is how much of a layer "ctr-remote image rpull" has the snapshotter prefetch at most, in bytes. Nothing of a layer that was converted without
// knowing what it is used for.
const rpullPrefetch = 10 << 20

// mountImage pulls an image as "ctr-remote image rpull --snapshotter NAME" does and mounts a view of it as "ctr image mount" does. Snapshotters that do not know
// stargz-snapshotter's labels take no notice of them.
func mountImage(ctx context.Context, socket, snapshotter, ref, target string) error {
	ctx = namespaces.WithNamespace(ctx, namespaces.Default)
	client, err := containerd.New(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost))})
	image, err := client.Pull(ctx, ref,
		containerd.WithResolver(resolver),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(snapshotter),
		containerd.WithImageHandlerWrapper(source.AppendDefaultLabelsHandlerWrapper(ref, rpullPrefetch)),
	)
	if err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	layers, err := image.RootFS(ctx)
	if err != nil {
		return err
	}
	mounts, err := client.SnapshotService(snapshotter).View(ctx, target, identity.ChainID(layers).String())
	if err != nil {
		return fmt.Errorf("view %s: %w", ref, err)
	}
	if err := mount.All(mounts, target); err != nil {
		return fmt.Errorf("mount %s on %s: %w", ref, target, err)
	}
	return nil
}
