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
	sharp  bool                     // switch read-ahead off
	before map[string][]byte        // files that say how much is read ahead, and what they held
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
		for _, name := range image.Backings {
			m.sharpen(filepath.Join("/sys/class/bdi", name, "read_ahead_kb"))
		}
	}
	return nil
}

// sharpen switches read-ahead off, if that is wished: else most of what was read ahead is mapped as the neighbour of something, and cannot be told from what was touched. Where it cannot be
// switched off, the profile is as good as it gets.
func (m *tracedMounts) sharpen(file string) {
	if _, ok := m.before[file]; ok || !m.sharp {
		return
	}
	before, err := os.ReadFile(file)
	if err == nil && os.WriteFile(file, []byte("0"), 0) == nil {
		m.before[file] = before
	}
}

// restore undoes sharpen, for mounts that are still there.
func (m *tracedMounts) restore() error {
	var errs []error
	for file, before := range m.before {
		if err := os.WriteFile(file, before, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("set read-ahead back: %w", err))
		}
	}
	m.before, m.sharp = nil, false
	return errors.Join(errs...)
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
