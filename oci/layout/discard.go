package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Discard takes back a layout that this store made, with what was pushed to it. It does nothing if the layout was there before, if something was tagged
// in it, or if somebody else uses it. After that the store must not be used any more.
func (s *Store) Discard() error {
	n := s.new
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inUse == nil {
		return nil
	}
	defer n.inUse.Close() // only locked
	if !n.made {
		return nil
	}
	// What is not empty holds what others put there.
	if err := s.discard(n); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("remove image layout %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) discard(n *newLayout) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	index, err := s.index()
	if err != nil {
		return err
	}
	// With the exclusive lock, nobody else prepares to store something here.
	if len(index.Manifests) > 0 || unix.Flock(int(n.inUse.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil
	}
	blobs := filepath.Join(s.dir, ocispec.ImageBlobsDir)
	for _, d := range n.pushed {
		if err := remove(filepath.Join(blobs, d.Algorithm().String(), d.Encoded())); err != nil {
			return err
		}
	}
	algorithms, err := os.ReadDir(blobs)
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		if err := remove(filepath.Join(blobs, a.Name())); err != nil {
			return err
		}
	}
	for _, path := range []string{blobs, filepath.Join(s.dir, ocispec.ImageLayoutFile), filepath.Join(s.dir, ocispec.ImageIndexFile)} {
		if err := remove(path); err != nil {
			return err
		}
	}
	if n.top == "" {
		return nil
	}
	for dir := filepath.Clean(s.dir); ; dir = filepath.Dir(dir) {
		if err := remove(dir); err != nil || dir == n.top {
			return err
		}
	}
}

// remove removes a file or an empty directory, if it is there.
func remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
