package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/atomicfile"
)

// The database of the snapshots is durable with each of its changes, what lies in the snapshots' directories only when the kernel finds the time. A power cut in between would leave snapshots
// that containerd takes for whole, and that are not: a layer of empty files, or a container that cannot be started.

// Commit makes a layer of an active snapshot, once all that is in it is durable.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	if err := syncFS(s.root); err != nil {
		return fmt.Errorf("make what is in snapshot %s durable: %w", key, err)
	}
	return s.Snapshotter.Commit(ctx, name, key, opts...)
}

// prepare makes an active snapshot with a directory that is durable. What is written into it is as durable as its writer wants it.
func (s *Snapshotter) prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	mounts, err := s.Snapshotter.Prepare(ctx, key, parent, opts...)
	if err != nil {
		return nil, err
	}
	ids, err := s.ancestors(ctx, key)
	if err == nil {
		err = s.syncDir(ids[0])
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the directory of snapshot %s durable: %w", key, err), s.Remove(ctx, key))
	}
	return mounts, nil
}

// syncDir makes the directory of a snapshot durable, and the names in it.
func (s *Snapshotter) syncDir(id string) error {
	return errors.Join(atomicfile.SyncDir(s.dir(id)), atomicfile.SyncDir(filepath.Dir(s.dir(id))))
}

// syncFS makes durable what is in a directory, and elsewhere in its file system.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
