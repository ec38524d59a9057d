package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
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
	asked  map[uint64]time.Time     // when it was last looked what a device is
	id     string                   // of the image that a user means, if its name alone does not tell that
}

// lookAgain is how long an answer counts that a device is not what is looked for. To look costs a thousand times what a touch may: others who read much would hold the recording up.
const lookAgain = time.Second

// shows says whether a device is an image that ref names. Neither may have been there at the last look.
func (m *tracedMounts) shows(ctx context.Context, device uint64, ref string) bool {
	if last, ok := m.asked[device]; ok && time.Since(last) < lookAgain {
		return false
	}
	if m.is(device, ref) {
		return true
	}
	found := m.look(ctx) == nil && m.is(device, ref)
	m.asked[device] = time.Now()
	return found
}

func (m *tracedMounts) is(device uint64, ref string) bool {
	image, ok := m.images[device]
	if !ok {
		return false
	}
	if image.ID == m.id {
		return true
	}
	wanted, err := findImage(m.status, ref)
	return err == nil && wanted.ID == image.ID
}

// find is findImage, of what was mounted at any look.
func (m *tracedMounts) find(what string) (control.Image, error) {
	image, err := findImage(m.status, what)
	if err == nil {
		return image, nil
	}
	before := control.Status{Images: slices.Collect(maps.Values(m.images))}
	for _, name := range []string{what, m.id} {
		if image, other := findImage(before, name); name != "" && other == nil {
			return image, nil
		}
	}
	return image, err
}

// resolve finds out which image a reference means that nothing is mounted under: containerd has images mounted by digest, whatever the name.
func (m *tracedMounts) resolve(c *cli.Context, ref string) (err error) {
	if _, err := m.find(ref); err == nil {
		return nil
	}
	m.id, err = imageID(c, m.status, ref)
	return err
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
	kept, err := m.client.Recordings(ctx, image.ID)
	if err != nil {
		return nil, err
	}
	meta, err := os.Open(kept.Meta)
	if kept.Meta == "" && len(image.Targets) > 0 { // it is in the kernel's hands alone
		return trace.FilesOfMount(m.inside(image.Targets[0])+"/", wanted)
	}
	if err != nil {
		return nil, fmt.Errorf("name what was touched: %w", err)
	}
	defer meta.Close()
	return trace.FilesOfMeta(meta, image.MetaBytes, wanted)
}
