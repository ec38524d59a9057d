package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// CheckBlob returns nil if file and record of a blob are what they must be, whatever is in the file, or nothing was ever recorded; else [ErrDamaged] and what is wrong. The error is
// fs.ErrNotExist if there is neither file nor record. It changes nothing.
func (s *Store) CheckBlob(id string, size int64, frames int) error {
	st, err := os.Stat(s.BlobPath(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	recorded, recordErr := s.checkRecord(id, frames)
	switch {
	case errors.Is(recordErr, fs.ErrNotExist):
		return err // a blob file alone is what a power cut leaves before the first checkpoint
	case recordErr != nil:
		return recordErr
	case !recorded:
		return nil
	case err != nil:
		return fmt.Errorf("%w: the blob file is gone", ErrDamaged)
	case st.Size() != size:
		return fmt.Errorf("%w: the blob file has %d bytes, not %d", ErrDamaged, st.Size(), size)
	}
	return nil
}

// checkRecord reports whether the record says that something is durable.
func (s *Store) checkRecord(id string, frames int) (recorded bool, err error) {
	f, err := os.Open(s.recordPath(id))
	if err != nil {
		return false, err
	}
	defer f.Close() // only read
	r, err := blankRecord(f, id, frames)
	if err != nil {
		return false, err
	}
	raw, err := r.read()
	switch {
	case errors.Is(err, io.EOF) && len(bytes.Trim(raw, "\x00")) == 0:
		return false, nil // it was never written to the disk
	case err != nil:
		return false, fmt.Errorf("%w: %w", ErrDamaged, err)
	case len(bytes.Trim(raw, "\x00")) == 0:
		return false, nil
	case !r.parse(raw):
		return false, fmt.Errorf("%w: the header of the presence record is wrong", ErrDamaged)
	}
	if i := slices.Index(r.stale, true); i >= 0 {
		return false, fmt.Errorf("%w: sector %d of the presence record has a wrong checksum", ErrDamaged, 1+i)
	}
	return slices.ContainsFunc(r.durable, func(w uint32) bool { return w != 0 }), nil
}

// Reread is ReadAt from the disk, as far as the kernel lets go of what it has cached.
func (b *Blob) Reread(p []byte, off int64) (int, error) {
	if err := unix.Fadvise(b.Fd(), off, int64(len(p)), unix.FADV_DONTNEED); err != nil {
		return 0, fmt.Errorf("drop the cache of %s: %w", b.f.Name(), err)
	}
	return b.f.ReadAt(p, off)
}
