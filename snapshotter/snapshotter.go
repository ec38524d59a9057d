// Package snapshotter serves containerd's snapshots API: ordinary images as overlayfs snapshots, and images with an artifact from one lazily mounted file system.
//
// It knows containerd's labels and how snapshots lie on disk, which it leaves to containerd's own overlayfs snapshotter; of artifacts it knows what a [Node] tells it.
// The one idea to hold in mind: a layer that is not fetched is a committed snapshot with a note beside its directory. The note of a chain's top layer says which artifact is mounted
// on the directory, and that mount stands for the whole chain. The layers below it have nothing in their directories, until somebody needs one of them by itself: then it is fetched
// and unpacked like any other.
package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/errdefs"

	"github.com/pagein/pagein/oci/trust"
)

// Config is what a snapshotter is made of. Root, Node and Log are required.
type Config struct {
	Root         string // directory of the snapshots, which is made if it is not there
	Node         Node
	Trust        *trust.Policy // which artifacts may stand for layers
	MountOptions []string      // more options for overlayfs, as of containerd's snapshotter
	Log          *slog.Logger
}

// Snapshotter is a [snapshots.Snapshotter]. Its methods may be called concurrently.
type Snapshotter struct {
	snapshots.Snapshotter // containerd's overlayfs snapshotter, with asynchronous removal

	root   string
	meta   *storage.MetaStore // of the overlayfs snapshotter
	node   Node
	trust  *trust.Policy
	log    *slog.Logger
	images *decisions

	unpacked unpackedImages

	stopTidying func() // ends tidyUp, and waits for that

	locks locks // by the name of a snapshot that is becoming lazy, and by the ID of one that is being mounted, unpacked or removed
}

// New opens the snapshots below a directory.
func New(c Config) (*Snapshotter, error) {
	if err := os.MkdirAll(c.Root, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the snapshots: %w", err)
	}
	meta, err := storage.NewMetaStore(filepath.Join(c.Root, "metadata.db"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots in %s: %w", c.Root, err)
	}
	base, err := overlay.NewSnapshotter(c.Root, overlay.AsynchronousRemove, overlay.WithMetaStore(meta), overlay.WithMountOptions(c.MountOptions))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots in %s: %w", c.Root, err), meta.Close())
	}
	s := &Snapshotter{Snapshotter: base, root: c.Root, meta: meta, node: c.Node, trust: c.Trust, log: c.Log, images: newDecisions()}
	if err := s.setAside(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("set aside in %s what belongs to no snapshot: %w", c.Root, err), base.Close())
	}
	s.tidyUp()
	return s, nil
}

// Close ends the use of the snapshots, which stay.
func (s *Snapshotter) Close() error {
	s.stopTidying()
	return s.Snapshotter.Close()
}

// Prepare makes an active snapshot. If containerd asks for a layer of an image that has an artifact, it is told that the layer is there already.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	info, err := described(opts)
	if err != nil {
		return nil, err
	}
	if err := s.lazily(ctx, key, parent, info.Labels); err != nil {
		return nil, err
	}
	return s.create(ctx, key, parent, s.prepare, opts)
}

// View makes a snapshot that is only read.
func (s *Snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.create(ctx, key, parent, s.Snapshotter.View, opts)
}

// described is a snapshot as it is asked for.
func described(opts []snapshots.Opt) (info snapshots.Info, err error) {
	for _, opt := range opts {
		if err := opt(&info); err != nil {
			return info, err
		}
	}
	return info, nil
}

// create makes a snapshot of which the layers below are needed.
func (s *Snapshotter) create(ctx context.Context, key, parent string,
	create func(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error), opts []snapshots.Opt,
) ([]mount.Mount, error) {
	info, err := described(opts)
	if err != nil {
		return nil, err
	}
	below, err := s.ancestors(ctx, parent)
	if err != nil {
		return nil, err
	}
	if _, err := s.complete(ctx, below, imageOf(info.Labels)); err != nil {
		return nil, fmt.Errorf("make the layers below %s usable: %w", key, err)
	}
	mounts, err := create(ctx, key, parent, opts...)
	if err != nil {
		return nil, err
	}
	return s.shorten(mounts, below)
}

// Mounts returns how to mount an active snapshot or a view. containerd asks when a container begins, among others.
func (s *Snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	all, err := s.ancestors(ctx, key)
	if err != nil {
		return nil, err
	}
	below := all[min(1, len(all)):]
	mounted, err := s.complete(ctx, below, "") // after the machine was restarted nothing is mounted any more
	if err != nil {
		return nil, fmt.Errorf("make the layers below %s usable: %w", key, err)
	}
	mounts, err := s.Snapshotter.Mounts(ctx, key)
	if err != nil {
		return nil, err
	}
	if mounted != "" {
		s.node.Begins(mounted)
	}
	return s.shorten(mounts, below)
}

// ancestors returns the IDs of a snapshot and of all below it, the topmost first. There are none of the snapshot "".
func (s *Snapshotter) ancestors(ctx context.Context, key string) (ids []string, err error) {
	err = s.meta.WithTransaction(ctx, false, func(ctx context.Context) error {
		for key != "" {
			id, info, _, err := storage.GetInfo(ctx, key)
			if err != nil {
				return err
			}
			ids = append(ids, id)
			key = info.Parent
		}
		return nil
	})
	return slices.Clip(ids), err
}

// committed reports whether a committed snapshot of that name and parent is there.
func (s *Snapshotter) committed(ctx context.Context, name, parent string) (bool, error) {
	info, err := s.Stat(ctx, name)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && info.Kind == snapshots.KindCommitted && info.Parent == parent, err
}

// dir is the directory of a snapshot.
func (s *Snapshotter) dir(id string) string { return filepath.Join(s.root, "snapshots", id) }

// content is the directory with what a snapshot adds.
func (s *Snapshotter) content(id string) string { return filepath.Join(s.dir(id), "fs") }
