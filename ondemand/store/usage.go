package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"syscall"
)

// Usage is the disk space in bytes that the blob files take. The kernel's own cache (transport cachefiles) is not in it.
func (s *Store) Usage() (int64, error) {
	entries, err := os.ReadDir(s.BlobDir())
	if err != nil {
		return 0, fmt.Errorf("add up the blobs of store %s: %w", s.root, err)
	}
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("add up the blobs of store %s: %w", s.root, err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
	}
	return total, nil
}
