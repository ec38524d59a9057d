package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bench/lab"
)

// diskSize is that of the store's disk, in bytes: all images fit, twice.
const diskSize = 768 << 20

// place is where a soak works: a directory, and in it the store on a disk of its own.
type place struct {
	dir  string
	keep bool
}

func newPlace(ctx context.Context, o options) (*place, error) {
	dir := o.dir
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "pagein-soak-")
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("make a place to work in: %w", err)
	}
	p := &place{dir: dir, keep: o.keep}
	disk := p.path("disk")
	err = errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, diskSize), os.MkdirAll(p.root(), 0o700))
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", disk}, {"mount", "-o", "loop", disk, p.root()}} {
		if err == nil {
			_, err = lab.Output(lab.Command(ctx, command[0], command[1:]...))
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a disk for the store: %w", err), p.remove(nil, nil))
	}
	return p, nil
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }
func (p *place) root() string            { return p.path("root") }

// mounts returns the mount points below the directory for mounts.
func (p *place) mounts() ([]string, error) {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(table)) {
		if target := strings.Fields(line)[1]; strings.HasPrefix(target, p.path("mnt")+"/") {
			found = append(found, target)
		}
	}
	return found, nil
}

// remove ends what runs and takes away what is mounted and made, and adds to err what hinders it. A soak that was never begun is nil.
func (p *place) remove(err error, s *soak) error {
	if s != nil {
		err = errors.Join(err, s.end())
	}
	mounts, mountsErr := p.mounts()
	err = errors.Join(err, mountsErr)
	for _, target := range mounts {
		err = errors.Join(err, unix.Unmount(target, unix.MNT_DETACH))
	}
	if s != nil {
		err = errors.Join(err, s.daemon.stop(unix.SIGTERM))
		if !eventually(30*time.Second, func() bool { return s.daemon.keeper() == 0 }) {
			err = errors.Join(err, errors.New("the keeper does not end, though nothing is mounted"))
		}
	}
	// Lazily, as the kernel may close files of the store in the background.
	if unmountErr := unix.Unmount(p.root(), unix.MNT_DETACH); unmountErr != nil && !errors.Is(unmountErr, unix.EINVAL) {
		err = errors.Join(err, fmt.Errorf("unmount the store's disk: %w", unmountErr))
	}
	if err != nil && p.keep {
		fmt.Printf("kept: %s\n", p.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// eventually asks until the answer is yes, or for so long.
func eventually(within time.Duration, ok func() bool) bool {
	for end := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return ok()
		}
	}
	return true
}
