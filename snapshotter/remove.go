package snapshotter

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
)

// Remove forgets a snapshot and removes what is on disk of it.
func (s *Snapshotter) Remove(ctx context.Context, key string) error {
	if err := s.Snapshotter.Remove(ctx, key); err != nil {
		return err
	}
	// The snapshot is gone already: what is left of it is tried again with the next one.
	if err := s.Cleanup(ctx); err != nil {
		s.log.Warn("something is left of a removed snapshot; it is tried again", "err", err)
	}
	return nil
}

// tidyUp begins to remove what a predecessor left of snapshots that are not there any more: containerd asks for that only when it has removed others.
func (s *Snapshotter) tidyUp() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Cleanup(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("something is left of snapshots that were removed earlier; it is tried again with the next one", "err", err)
		}
	}()
	s.stopTidying = func() {
		cancel()
		<-done
	}
}

// Cleanup removes what is left on disk of snapshots that are not there any more. Images that were mounted for them are unmounted first.
func (s *Snapshotter) Cleanup(ctx context.Context) error {
	stale, err := s.stale(ctx)
	if err != nil {
		return fmt.Errorf("find what removed snapshots left: %w", err)
	}
	var last error
	for _, id := range stale {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.clear(ctx, id); err != nil {
			last = err // the others go all the same
		}
	}
	return last
}

// stale lists the directories that belong to no snapshot. A write transaction keeps others from making one meanwhile.
func (s *Snapshotter) stale(ctx context.Context) (stale []string, err error) {
	err = s.meta.WithTransaction(ctx, true, func(ctx context.Context) error {
		known, err := storage.IDMap(ctx)
		if err != nil && !errdefs.IsNotFound(err) { // there has never been a snapshot
			return err
		}
		entries, err := os.ReadDir(filepath.Join(s.root, "snapshots"))
		for _, e := range entries {
			if _, ok := known[e.Name()]; !ok {
				stale = append(stale, e.Name())
			}
		}
		return err
	})
	return stale, err
}

// setAside renames directories that belong to no snapshot: one who was killed before it was recorded left it under a number that the next snapshot gets. They are removed as others are. What
// has a note was recorded once, and its number is not given again.
func (s *Snapshotter) setAside(ctx context.Context) error {
	stale, err := s.stale(ctx)
	if err != nil {
		return err
	}
	for _, id := range stale {
		if n, err := s.readNote(id); n != nil || err != nil {
			continue
		}
		aside, err := os.MkdirTemp(filepath.Join(s.root, "snapshots"), "stale-")
		if err != nil {
			return err
		}
		if err := unix.Rename(s.dir(id), aside); err != nil { // that of package os takes no directory for another
			return err
		}
	}
	return nil
}

// clear removes the directory of a snapshot that is not there any more. Who pulls its image again gets the artifact that is the right one then.
func (s *Snapshotter) clear(ctx context.Context, id string) error {
	unlock, err := s.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if n, err := s.readNote(id); err == nil && n != nil {
		s.images.forget(n.Artifact)
	}
	if err := s.unmount(ctx, id); err != nil {
		return err
	}
	return os.RemoveAll(s.dir(id))
}

// unmount takes off what is mounted on a snapshot's directory, or was when the machine went down and could not be mounted again yet. Containers that still run on it keep it for themselves.
func (s *Snapshotter) unmount(ctx context.Context, id string) error {
	target := s.content(id)
	if _, mounted, err := kmount.Lookup(target); err != nil {
		return err
	} else if n, noteErr := s.readNote(id); !mounted && noteErr == nil && (n == nil || !n.Top) {
		return nil
	}
	return s.node.Unmount(ctx, target)
}
