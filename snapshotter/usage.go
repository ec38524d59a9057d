package snapshotter

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// Usage is what a snapshot takes on disk besides those below it. The topmost layer that an artifact stands for takes what is on this machine of the artifact: its metadata, and what was
// fetched of its blobs, as far as it does not count for another image that has them too. The layers below it take nothing, unless they were fetched after all.
func (s *Snapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.usage(ctx, key, func() (map[string]int64, error) { return s.node.Used(ctx) })
}

// usage is Usage, which asks for what images take only if it must know.
func (s *Snapshotter) usage(ctx context.Context, key string, images func() (map[string]int64, error)) (snapshots.Usage, error) {
	usage, err := s.Snapshotter.Usage(ctx, key)
	if err != nil {
		return usage, err
	}
	ids, err := s.ancestors(ctx, key)
	if err != nil {
		return usage, err
	}
	n, err := s.readNote(ids[0])
	switch {
	case err != nil || n == nil:
		return usage, err
	case n.Unpacked != nil:
		return *n.Unpacked, nil
	}
	used, err := images()
	if err != nil {
		return usage, fmt.Errorf("find out what %s takes: %w", key, err)
	}
	path, err := filepath.Rel(s.root, s.content(ids[0]))
	if err != nil {
		return usage, err
	}
	if size, mounted := used[path]; mounted {
		usage.Size = size
	}
	return usage, nil
}

// Used is what all snapshots take together.
func (s *Snapshotter) Used(ctx context.Context) (all snapshots.Usage, err error) {
	images := sync.OnceValues(func() (map[string]int64, error) { return s.node.Used(ctx) })
	var keys []string
	err = s.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		keys = append(keys, info.Name)
		return nil
	})
	if err != nil {
		return all, err
	}
	for _, key := range keys {
		usage, err := s.usage(ctx, key, images)
		if errdefs.IsNotFound(err) {
			continue // it was removed just now
		}
		if err != nil {
			return all, err
		}
		all.Add(usage)
	}
	return all, nil
}
