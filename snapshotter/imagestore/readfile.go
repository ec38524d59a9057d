package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/image-spec/identity"

	"github.com/pagein/pagein/oci"
)

// ReadFile reads a file of a lazily pulled image through the snapshotter, in this mount namespace.
func (s *Store) ReadFile(ctx context.Context, name, path string) ([]byte, error) {
	b, err := s.readFile(s.in(ctx), name, path)
	if err != nil {
		return nil, fmt.Errorf("read %s in %s: %w", path, name, err)
	}
	return b, nil
}

func (s *Store) readFile(ctx context.Context, name, path string) (b []byte, err error) {
	img, err := s.client.ImageService().Get(ctx, name)
	if err != nil {
		return nil, err
	}
	layers, err := img.RootFS(ctx, s.client.ContentStore(), s.platform())
	if err != nil {
		return nil, err
	}
	ctx, done, err := s.client.WithLease(ctx) // else containerd may collect the snapshot as garbage
	if err != nil {
		return nil, err
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }() // it ends by itself a day later
	snapshots, key := s.client.SnapshotService(s.o.Snapshotter), "look into "+img.Target.Digest.String()
	mounts, err := snapshots.View(ctx, key, identity.ChainID(layers).String())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snapshots.Remove(context.WithoutCancel(ctx), key)) }()
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return nil, fmt.Errorf("it is not mounted lazily: its mounts are %v", mounts)
	}
	root, err := os.OpenRoot(mounts[0].Source)
	if err != nil {
		return nil, err
	}
	defer root.Close() // only read
	return root.ReadFile(filepath.Clean(path))
}

// Forget removes an image, if there is one, with all that is kept for it alone or was left by a pull that failed, and then the namespace, if there is nothing else in it.
func (s *Store) Forget(ctx context.Context, ref oci.Ref) error {
	name := imageName(ref)
	err := s.client.ImageService().Delete(s.in(ctx), name)
	if err == nil || errdefs.IsNotFound(err) {
		err = s.collect(s.in(ctx))
	}
	if err == nil {
		err = s.client.NamespaceService().Delete(ctx, s.o.Namespace)
	}
	if err != nil && !errdefs.IsFailedPrecondition(err) && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove %s from %s: %w", name, s.o.Namespace, err)
	}
	return nil
}
