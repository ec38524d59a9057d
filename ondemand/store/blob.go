package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/atomicfile"
)

// Blob is an open blob file: sparse, as long as the blob's address space, with a record of the frames in it. It implements ondemand.Target and, through
// Presence, ondemand.Presence. Its methods may be called concurrently, Close last.
type Blob struct {
	store *Store
	id    string
	size  int64
	f     *os.File
	pres  *Presence
	users int       // guarded by store.mu
	used  time.Time // before it was opened; zero if it has been in use since. Guarded by store.mu
	sync  func(fd int) error

	forgotten atomic.Uint64 // calls of Forget
	unsynced  atomic.Int64  // bytes written since the last checkpoint began

	checkpoints sync.Mutex   // held during a checkpoint
	closed      bool         // guarded by checkpoints
	losing      sync.RWMutex // write-locked while frames are made absent whose bytes may be lost

	mu      sync.Mutex // guards what follows
	rec     *record
	pending []uint32 // frames that the running checkpoint is going to record; nil if none runs
	saved   uint64   // pres.sets when the last good checkpoint began
	named   bool     // the names of file and record are durable
}

// OpenBlob opens the blob file of that ID (64 hex digits), size in bytes and number of frames, making it if need be. A blob that is open already is shared: each opening
// needs its own Close.
func (s *Store) OpenBlob(id string, size int64, frames int) (*Blob, error) {
	return s.openBlob(id, size, frames, time.Time{})
}

// InspectBlob is OpenBlob for somebody who only looks after the blob, which is no use of it.
func (s *Store) InspectBlob(id string, size int64, frames int) (*Blob, error) {
	var used time.Time
	st, err := os.Stat(s.recordPath(id))
	if err == nil {
		used = st.ModTime()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("inspect blob %s: %w", id, err)
	}
	return s.openBlob(id, size, frames, used)
}

// openBlob opens a blob that was used last at that time, zero meaning that it is used now.
func (s *Store) openBlob(id string, size int64, frames int, used time.Time) (*Blob, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.open[id]; b != nil {
		if b.size != size || b.rec.frames != frames {
			return nil, fmt.Errorf("open blob file %s: it is open with %d bytes and %d frames, not %d and %d", b.f.Name(), b.size, b.rec.frames, size, frames)
		}
		b.users++
		if used.IsZero() {
			b.used = used
		}
		return b, nil
	}
	f, err := os.OpenFile(s.BlobPath(id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open blob file: %w", err)
	}
	return s.adopt(f, id, size, frames, false, used)
}

// AdoptBlob is OpenBlob for a file that a predecessor had opened: fd now belongs to the Blob. Where events are raised for every later open, only such a
// descriptor can be written without raising one. That it is still open also says that the kernel's cache of the file is the one that the predecessor knew.
func (s *Store) AdoptBlob(fd int, id string, size int64, frames int) (*Blob, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := os.NewFile(uintptr(fd), s.BlobPath(id))
	if s.open[id] != nil {
		return nil, errors.Join(fmt.Errorf("adopt blob file %s: it is open", f.Name()), f.Close())
	}
	return s.adopt(f, id, size, frames, true, time.Time{})
}

// adopt takes over f. The caller holds s.mu.
func (s *Store) adopt(f *os.File, id string, size int64, frames int, held bool, used time.Time) (*Blob, error) {
	rec, err := s.openFiles(f, id, size, frames, held)
	if err == nil {
		err = rec.touch(used)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open blob file %s: %w", f.Name(), err), f.Close())
	}
	b := &Blob{store: s, id: id, size: size, f: f, rec: rec, pres: newPresence(rec.words), users: 1, used: used, sync: unix.Fdatasync}
	s.open[id] = b
	return b, nil
}

func (s *Store) openFiles(f *os.File, id string, size int64, frames int, held bool) (*record, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	path := s.recordPath(id)
	if held {
		if named, err := os.Stat(s.BlobPath(id)); err != nil || !os.SameFile(named, st) {
			// Somebody deleted the file that the kernel goes on to read. A record under its name would be taken for that of another file.
			return s.anonymousRecord(f, id, frames)
		}
	}
	if st.Size() != size {
		// The file is new, or damaged. It must not get its size, and with it the look of a sound one, before the record of an earlier one is gone for good.
		if err := removeDurably(path); err != nil {
			return nil, err
		}
		if err := errors.Join(f.Truncate(0), f.Truncate(size)); err != nil {
			return nil, err
		}
	}
	rec, err := namedRecord(path, f, id, frames)
	if errors.Is(err, unix.EIO) {
		// The disk cannot read it any more. What it said is lost, and another file has other sectors.
		if err := removeDurably(path); err != nil {
			return nil, err
		}
		rec, err = namedRecord(path, f, id, frames)
	}
	return rec, err
}

func namedRecord(path string, f *os.File, id string, frames int) (*record, error) {
	rf, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return newRecord(rf, f, id, frames)
}

// anonymousRecord makes a record that ends with its descriptor.
func (s *Store) anonymousRecord(f *os.File, id string, frames int) (*record, error) {
	rf, err := atomicfile.Temp(s.BlobDir())
	if err != nil {
		return nil, err
	}
	return newRecord(rf, f, id, frames)
}

// newRecord opens rf as the record of f. The session is that of f: a descriptor that a predecessor opened is of the mount that it was opened in.
func newRecord(rf, f *os.File, id string, frames int) (*record, error) {
	ses, err := sessionOf(f)
	var r *record
	if err == nil {
		r, err = openRecord(rf, id, frames, ses)
	}
	if err != nil {
		return nil, errors.Join(err, rf.Close())
	}
	return r, nil
}

// removeDurably removes a file, and makes sure that it does not come back with the next power cut.
func removeDurably(path string) error {
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// BlobPath is where the blob file of that ID is kept.
func (s *Store) BlobPath(id string) string { return s.path("blobs", id) }

func (s *Store) recordPath(id string) string { return s.BlobPath(id) + recordSuffix }

// Fd is the blob file's descriptor, open for reading and writing. It belongs to the Blob.
func (b *Blob) Fd() int { return int(b.f.Fd()) }

// Presence tells which frames are in the file.
func (b *Blob) Presence() *Presence { return b.pres }

// ReadAt reads what is in the file, without raising events if the file was opened before it was marked.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

// WriteAt puts verified bytes in the file, through the page cache, which readers of the file share.
func (b *Blob) WriteAt(p []byte, off int64) (int, error) {
	n, err := b.f.WriteAt(p, off)
	if b.unsynced.Add(int64(n)) >= checkpointBytes {
		b.store.hurry()
	}
	return n, err
}

// Put writes a frame's verified bytes and marks it as present. Unlike a WriteAt and a Set, it leaves no instant in between at which a failing disk could lose the bytes of
// a frame that is marked afterwards.
func (b *Blob) Put(frame int, p []byte, off int64) error {
	b.losing.RLock()
	defer b.losing.RUnlock()
	if _, err := b.WriteAt(p, off); err != nil {
		return err
	}
	b.pres.Set(frame)
	return nil
}

// Close makes durable what is present, records that it is, and closes the file when nobody else uses it. Its caller may write nothing any more. When the disk did not
// take it, what was not durable before is not present afterwards.
func (b *Blob) Close() error {
	err := b.Checkpoint()
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.users--; b.users > 0 {
		return err
	}
	delete(s.open, b.id)
	err = errors.Join(err, b.Checkpoint()) // of what came since, if anything did
	b.checkpoints.Lock()
	defer b.checkpoints.Unlock()
	b.closed = true
	return errors.Join(err, b.rec.close(b.used), b.f.Close())
}
