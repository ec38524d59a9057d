package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// CheckBlob returns nil if file and record of a blob are what they must be, whatever is in the file: [ErrDamaged] and what is wrong otherwise, and fs.ErrNotExist if there is
// none of the two. It changes nothing.
func (s *Store) CheckBlob(id string, size int64, frames int) error {
	st, err := os.Stat(s.BlobPath(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, recErr := os.Open(s.recordPath(id))
	if recErr != nil && !errors.Is(recErr, fs.ErrNotExist) {
		return recErr
	}
	if recErr == nil {
		defer f.Close() // only read
	}
	switch {
	case err != nil && recErr != nil:
		return err
	case err != nil:
		return fmt.Errorf("%w: the blob file is gone", ErrDamaged)
	case recErr != nil && isEmpty(st):
		return nil // nothing was ever in it
	case recErr != nil:
		return fmt.Errorf("%w: the record of what is in the blob file is gone", ErrDamaged)
	case st.Size() != size:
		return fmt.Errorf("%w: the blob file has %d bytes, not %d", ErrDamaged, st.Size(), size)
	}
	return checkRecord(f, id, frames)
}

// isEmpty reports whether a file takes no space.
func isEmpty(st fs.FileInfo) bool {
	raw, ok := st.Sys().(*syscall.Stat_t)
	return ok && raw.Blocks == 0
}

func checkRecord(f *os.File, id string, frames int) error {
	r, err := blankRecord(f, id, frames)
	if err != nil {
		return err
	}
	raw, err := r.read()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !r.parse(raw) {
		return fmt.Errorf("%w: the header of the presence record is wrong", ErrDamaged)
	}
	for i, stale := range r.stale {
		if stale {
			return fmt.Errorf("%w: sector %d of the presence record has a wrong checksum", ErrDamaged, 1+i)
		}
	}
	return nil
}

// Reread is ReadAt from the disk, as far as the kernel lets go of what it has cached.
func (b *Blob) Reread(p []byte, off int64) (int, error) {
	if err := unix.Fadvise(b.Fd(), off, int64(len(p)), unix.FADV_DONTNEED); err != nil {
		return 0, fmt.Errorf("drop the cache of %s: %w", b.f.Name(), err)
	}
	return b.f.ReadAt(p, off)
}
