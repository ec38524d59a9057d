package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/trace"
)

// tracedMounts knows which images are mounted as which devices.
type tracedMounts struct {
	client *control.Client
	status control.Status
	images map[uint64]control.Image // st_dev → image, of all looks
}

// look asks the daemon what is mounted now. What was mounted before is remembered.
func (m *tracedMounts) look(ctx context.Context) error {
	var err error
	if m.status, err = m.client.Status(ctx); err != nil {
		return err
	}
	for _, image := range m.status.Images {
		for _, target := range image.Targets {
			var st unix.Stat_t
			if unix.Stat(m.inside(target), &st) == nil {
				m.images[st.Dev] = image
			}
		}
	}
	return nil
}

// inside is a path in the daemon's mount namespace.
func (m *tracedMounts) inside(target string) string {
	return filepath.Join("/proc", strconv.Itoa(m.status.PID), "root", target)
}

// files names inodes of an image.
func (m *tracedMounts) files(ctx context.Context, image control.Image, wanted map[uint64]bool) (map[uint64]trace.File, error) {
	timeline, err := m.client.Timeline(ctx, image.ID, 0)
	if err != nil {
		return nil, err
	}
	meta, err := os.Open(timeline.Meta)
	if errors.Is(err, fs.ErrNotExist) && len(image.Targets) > 0 { // it is in the kernel's hands alone
		return trace.FilesOfMount(m.inside(image.Targets[0])+"/", wanted)
	}
	if err != nil {
		return nil, fmt.Errorf("name what was touched: %w", err)
	}
	defer meta.Close()
	return trace.FilesOfMeta(meta, image.MetaBytes, wanted)
}
