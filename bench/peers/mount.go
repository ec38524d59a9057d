package main

import (
	"context"
	"fmt"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/opencontainers/image-spec/identity"
)

// mountImage pulls an image and mounts a view of it, as "ctr image mount" does.
func mountImage(ctx context.Context, socket, snapshotter, ref, target string) error {
	ctx = namespaces.WithNamespace(ctx, namespaces.Default)
	client, err := containerd.New(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	image, err := pull(ctx, client, snapshotter, ref)
	if err != nil {
		return err
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
