package store

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Blob is an open blob file: sparse, as long as the blob's address space, with a record of the frames in it. It implements ondemand.Target and, through
// Presence, ondemand.Presence. Its methods may be called concurrently, Close last.
type Blob struct {
	f    *os.File
	pres *Presence
	sync func(fd int) error // fdatasync(2)
}

// OpenBlob opens the blob file of that ID, size in bytes and number of frames, making it if need be. A blob may be open once at a time.
func (s *Store) OpenBlob(id string, size int64, frames int) (*Blob, error) {
	f, err := os.OpenFile(s.BlobPath(id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open blob file: %w", err)
	}
	return s.openBlob(f, id, size, frames)
}

// AdoptBlob is OpenBlob for a file that a predecessor had opened: fd now belongs to the Blob. Where events are raised for every later open, only such a
// descriptor can be written without raising one.
func (s *Store) AdoptBlob(fd int, id string, size int64, frames int) (*Blob, error) {
	return s.openBlob(os.NewFile(uintptr(fd), s.BlobPath(id)), id, size, frames)
}

func (s *Store) openBlob(f *os.File, id string, size int64, frames int) (*Blob, error) {
	b, err := s.withPresence(f, id, size, frames)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open blob file %s: %w", f.Name(), err)
	}
	return b, nil
}

func (s *Store) withPresence(f *os.File, id string, size int64, frames int) (*Blob, error) {
	boot, err := BootID()
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	fresh := st.Size() != size
	if fresh {
		if err := errors.Join(f.Truncate(0), f.Truncate(size)); err != nil {
			return nil, err
		}
	}
	pres, err := openPresence(s.BlobPath(id)+".present", frames, boot, fresh)
	if err != nil {
		return nil, err
	}
	return &Blob{f: f, pres: pres, sync: unix.Fdatasync}, nil
}

// BlobPath is where the blob file of that ID is kept.
func (s *Store) BlobPath(id string) string { return s.path("blobs", id) }

// Fd is the blob file's descriptor, open for reading and writing. It belongs to the Blob.
func (b *Blob) Fd() int { return int(b.f.Fd()) }

// Presence tells which frames are in the file.
func (b *Blob) Presence() *Presence { return b.pres }

// WriteAt puts verified bytes in the file, through the page cache, which readers of the file share.
func (b *Blob) WriteAt(p []byte, off int64) (int, error) { return b.f.WriteAt(p, off) }

// Close makes durable what is present, records that it is, and closes the file. Nothing may be written any more. When the disk did not take it, nobody knows
// what is lost, and the kernel tells of the loss only once: then the record says that nothing is present.
func (b *Blob) Close() error {
	sync := b.sync(int(b.f.Fd()))
	if sync != nil {
		sync = fmt.Errorf("sync %s: %w", b.f.Name(), sync)
	}
	return errors.Join(sync, b.pres.close(sync == nil), b.f.Close())
}
