package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pagein/pagein/bench/lab"
)

// lazyMount starts pageind on an empty store, mounts the image through the link, and uses it.
func (s *stage) lazyMount(ctx context.Context) (t timing, transport string, err error) {
	dir, err := os.MkdirTemp(s.dir, "node-")
	if err != nil {
		return timing{}, "", fmt.Errorf("make a directory for the daemon: %w", err)
	}
	defer os.RemoveAll(dir)
	target := filepath.Join(dir, "mnt")
	if err := os.Mkdir(target, 0o755); err != nil {
		return timing{}, "", fmt.Errorf("make the mount point: %w", err)
	}
	node, err := lab.StartNode(ctx, dir)
	if err != nil {
		return timing{}, "", err
	}
	defer func() { err = errors.Join(err, node.Stop()) }()

	t, err = s.timed(ctx, target, node.Programs(), func() error { return node.Mount(ctx, s.link.Addr()+"/"+lazy, target) })
	if ctx.Err() != nil {
		return timing{}, "", ctx.Err()
	}
	if err != nil {
		return timing{}, "", fmt.Errorf("%w\npageind's log ends with:\n%s", err, node.Log())
	}
	status, err := node.Status(ctx)
	if err == nil && len(status.Images) == 1 {
		transport = status.Images[0].Transport
	}
	return t, transport, errors.Join(err, node.Unmount(ctx, target))
}
