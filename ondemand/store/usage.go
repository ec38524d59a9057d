package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// Usage is the disk space in bytes that the blob files take, each counted once however many images share it. The kernel's own cache (transport cachefiles) is not in it.
func (s *Store) Usage() (int64, error) {
	entries, err := os.ReadDir(s.BlobDir())
	if err != nil {
		return 0, fmt.Errorf("add up the blobs of store %s: %w", s.root, err)
	}
	var total int64
	for _, e := range entries {
		n, _, err := allocated(e)
		if err != nil {
			return 0, fmt.Errorf("add up the blobs of store %s: %w", s.root, err)
		}
		total += n
	}
	return total, nil
}

// allocated returns the disk space in bytes that a file takes and when it was changed last. One that was removed meanwhile takes none.
func allocated(e fs.DirEntry) (int64, time.Time, error) {
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, time.Time{}, nil
	}
	if err != nil {
		return 0, time.Time{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, time.Time{}, fmt.Errorf("size on disk of %s is not known", e.Name())
	}
	return st.Blocks * 512, info.ModTime(), nil
}

// Kept is a file in the store that could be removed: a blob with its record and map, or a metadata image.
type Kept struct {
	ID        string    // 64 hex digits
	Allocated int64     // disk space in bytes
	Used      time.Time // of a blob: when it was opened, filled or closed last, as far as a power cut left that known; of a meta: when it was fetched
	Open      bool      // of a blob: it is open now, and cannot be removed
}

// Blobs lists the blobs of which the store has something, be it a map, in order of their IDs.
func (s *Store) Blobs() ([]Kept, error) {
	blobs, err := os.ReadDir(s.BlobDir())
	if err != nil {
		return nil, fmt.Errorf("list the blobs of store %s: %w", s.root, err)
	}
	maps, err := os.ReadDir(s.path("maps"))
	if err != nil {
		return nil, fmt.Errorf("list the maps of store %s: %w", s.root, err)
	}
	kept := make(keptSet)
	for _, e := range append(blobs, maps...) {
		id := strings.TrimSuffix(strings.TrimSuffix(e.Name(), recordSuffix), mapSuffix)
		if err := kept.add(id, e); err != nil {
			return nil, fmt.Errorf("list the blobs of store %s: %w", s.root, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, k := range kept {
		k.Open = s.open[id] != nil
	}
	return kept.sorted(), nil
}

// Metas lists the metadata images, in order of their digests.
func (s *Store) Metas() ([]Kept, error) {
	entries, err := os.ReadDir(s.path("meta"))
	if err != nil {
		return nil, fmt.Errorf("list the metas of store %s: %w", s.root, err)
	}
	kept := make(keptSet)
	for _, e := range entries {
		if err := kept.add(strings.TrimSuffix(e.Name(), metaSuffix), e); err != nil {
			return nil, fmt.Errorf("list the metas of store %s: %w", s.root, err)
		}
	}
	return kept.sorted(), nil
}
