package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lazyMount starts pageind on an empty store, mounts the image through the link, and uses it.
func (s *stage) lazyMount(ctx context.Context) (_ timing, transport string, err error) {
	dir, err := os.MkdirTemp(s.dir, "node-")
	if err != nil {
		return timing{}, "", fmt.Errorf("make a directory for the daemon: %w", err)
	}
	defer os.RemoveAll(dir)
	socket := "unix://" + filepath.Join(dir, "pageind.sock")
	pagein := func(ctx context.Context, args ...string) ([]byte, error) {
		return output(command(ctx, s.programs.pagein, append([]string{"--address", socket}, args...)...))
	}
	daemon, err := startService(command(context.WithoutCancel(ctx), s.programs.pageind,
		"--root", filepath.Join(dir, "root"), "--address", socket, "--unmount-on-exit"))
	if err != nil {
		return timing{}, "", err
	}
	defer func() { err = errors.Join(err, daemon.stop()) }()
	if err := daemon.await(ctx, 20*time.Second, func(ctx context.Context) error {
		_, err := pagein(ctx, "status")
		return err
	}); err != nil {
		return timing{}, "", err
	}

	target := filepath.Join(dir, "mnt")
	if err := os.Mkdir(target, 0o755); err != nil {
		return timing{}, "", fmt.Errorf("make the mount point: %w", err)
	}
	defer func() {
		// With a context of its own: this also cleans up after ^C.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		_, umountErr := pagein(ctx, "umount", target)
		err = errors.Join(err, umountErr)
	}()
	t, err := s.timed(ctx, target, []string{s.programs.pagein, s.programs.pageind}, func() error {
		_, err := pagein(ctx, "mount", s.link.Addr()+"/"+lazy, target)
		return err
	})
	if err != nil {
		return timing{}, "", err
	}
	return t, transport, nil
}
