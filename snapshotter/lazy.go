package snapshotter

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/pagein/pagein/internal/kmount"
)

// lazily answers a request for a layer that is to be unpacked: with an error that says that it is there already, if an artifact stands for it. Nil means that the layer is to be
// unpacked as usual.
func (s *Snapshotter) lazily(ctx context.Context, key, parent string, labels map[string]string) error {
	target := digest.Digest(labels[snapshots.LabelSnapshotRef])
	if target.Validate() != nil {
		return nil // a container's snapshot
	}
	name := lazyName(target, parent)
	there, err := s.committed(ctx, name, parent)
	if err != nil {
		return err
	}
	if !there {
		found := s.decide(ctx, target, labels)
		if found == nil {
			return ctx.Err()
		}
		if err := s.commit(ctx, key, parent, name, target, found, labels); err != nil {
			s.refuse(ctx, target, labels, fmt.Errorf("layer %s: %s: %w", target, found.Artifact, err))
			return ctx.Err()
		}
		if target == found.Chains[len(found.Chains)-1] {
			s.unpacked.forget(labels)
		}
	}
	return fmt.Errorf("layer %s is not fetched before it is read: %w", target, errdefs.ErrAlreadyExists)
}

// lazyName is the name of the snapshot of a layer that is not fetched. It is that of the layer, so that all namespaces of containerd share it, unless it lies on a snapshot of one
// namespace: containerd wants one with the very parent that it has.
func lazyName(target digest.Digest, parent string) string {
	if parent == "" || digest.Digest(parent).Validate() == nil {
		return target.String()
	}
	return target.String() + " on " + parent
}

// commit makes a committed snapshot of a layer that is not fetched, unless somebody else has just made it.
func (s *Snapshotter) commit(ctx context.Context, key, parent, name string, target digest.Digest, found *Found, labels map[string]string) (err error) {
	unlock, err := s.locks.lock(ctx, name) // not before it is decided: other images have the layer too, and nothing to do with this one's registry
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := s.committed(ctx, name, parent); there || err != nil {
		return err
	}
	if _, err := s.Snapshotter.Prepare(ctx, key, parent, snapshots.WithLabels(labels)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if err := s.Remove(context.WithoutCancel(ctx), key); err != nil {
				s.log.Warn("snapshot of a layer that could not be mounted stays", "key", key, "err", err)
			}
		}
	}()
	ids, err := s.ancestors(ctx, key)
	if err != nil {
		return err
	}
	n := note{Artifact: found.Artifact, Image: found.Image, Name: labels[snapshotters.TargetRefLabel], Chain: target, Top: target == found.Chains[len(found.Chains)-1]}
	if err := s.writeNote(ids[0], n); err != nil {
		return err
	}
	var usage snapshots.Usage
	if n.Top {
		usage.Size = found.MetaSize
		if err := s.mount(ctx, ids[0], &n); err != nil {
			return err
		}
	}
	return s.meta.WithTransaction(ctx, true, func(ctx context.Context) error {
		_, err := storage.CommitActive(ctx, key, name, usage, snapshots.WithLabels(labels))
		return err
	})
}

// mount mounts an artifact on the directory of its top layer, unless it is mounted there.
func (s *Snapshotter) mount(ctx context.Context, id string, n *note) error {
	unlock, err := s.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if _, mounted, err := kmount.Lookup(s.content(id)); mounted || err != nil {
		return err
	}
	if err = s.node.Mount(ctx, n.Artifact, s.content(id)); err == nil {
		return nil
	}
	if _, mounted, lookErr := kmount.Lookup(s.content(id)); mounted && lookErr == nil {
		return nil // the node was just mounting again what had been mounted before a restart
	}
	return err
}

// complete makes layers usable as the lower ones of an overlay, the topmost first: the artifacts that stand for them are mounted, and what none stands for from here on down is
// fetched and unpacked. It is for a snapshot of the named image, which has these layers too, or of one that is not known if that is "". It returns the directory on which an artifact is mounted, "" for none.
func (s *Snapshotter) complete(ctx context.Context, layers []string, image string) (mounted string, err error) {
	var missing []int
	for i, id := range layers {
		n, err := s.lazy(id)
		if err != nil {
			return "", err
		}
		if n == nil {
			continue
		}
		if n.Top {
			layers = layers[:i+1]
			if err := s.mount(ctx, id, n); err != nil {
				return "", err
			}
			mounted = s.content(id)
			break
		}
		missing = append(missing, i)
	}
	for _, i := range slices.Backward(missing) { // each needs to know the directories below
		if err := s.unpack(ctx, layers[i], layers[i+1:], image); err != nil {
			return "", err
		}
	}
	return mounted, nil
}
