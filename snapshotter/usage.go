package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Usage is what a snapshot takes on disk besides those below it. The topmost layer that an artifact stands for takes what is on this machine of the artifact: its metadata, and what was
// fetched of its blobs, as far as it does not count for another image that has them too. The layers below it take nothing, unless they were fetched after all.
func (s *Snapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.usage(ctx, key, func() (map[string]int64, error) { return s.node.Used(ctx) })
}

// usage is Usage, which asks for what images take only if it must know.
func (s *Snapshotter) usage(ctx context.Context, key string, images func() (map[string]int64, error)) (snapshots.Usage, error) {
	usage, measureErr := s.Snapshotter.Usage(ctx, key)
	if measureErr != nil && !errors.Is(measureErr, fs.ErrNotExist) {
		return usage, measureErr
	}
	ids, err := s.ancestors(ctx, key)
	if err != nil {
		return usage, err
	}
	if measureErr != nil { // a container has removed a file in the meantime
		return measure(ctx, s.content(ids[0]))
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

// measure is what a directory takes that somebody writes to: what goes away meanwhile does not count.
func measure(ctx context.Context, dir string) (usage snapshots.Usage, err error) {
	type inode struct{ dev, number uint64 }
	counted := make(map[inode]bool)
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find out what %s takes: %w", path, err)
		}
		if i := (inode{st.Dev, st.Ino}); !counted[i] {
			counted[i] = true
			usage.Add(snapshots.Usage{Inodes: 1, Size: st.Blocks * 512}) // st_blocks has units of 512 bytes, see stat(2)
		}
		return ctx.Err()
	})
	return usage, err
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
