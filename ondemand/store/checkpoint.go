package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/atomicfile"
)

const (
	// checkpointInterval is how long frames may be present without being durable, if the disk keeps up: what a power cut costs.
	checkpointInterval = 5 * time.Second
	// checkpointBytes is after how many written bytes a blob's checkpoint begins earlier. It bounds how long a checkpoint takes.
	checkpointBytes = 64 << 20
)

// Checkpoint makes durable what is present, then records that it is. If the disk does not take the bytes, nobody knows which it has, and the kernel tells only
// once and may drop its own copy: then all frames since the last good checkpoint are absent when Checkpoint returns the error, so that they are fetched again.
func (b *Blob) Checkpoint() error {
	b.checkpoints.Lock()
	defer b.checkpoints.Unlock()
	if b.closed {
		return nil
	}
	b.unsynced.Store(0)
	sets, fresh := b.begin()
	if !fresh {
		return nil
	}
	syncErr := b.sync(int(b.f.Fd()))

	b.mu.Lock()
	defer b.mu.Unlock()
	pending := b.pending
	b.pending = nil
	if syncErr != nil {
		b.unmark()
		return fmt.Errorf("sync %s: %w", b.f.Name(), syncErr)
	}
	for i, w := range pending {
		if w != 0 {
			b.rec.setDurable(i, w)
		}
	}
	if err := b.rec.write(b.sync); err != nil {
		return err
	}
	if err := b.nameDurably(); err != nil {
		return err
	}
	b.saved = sets
	return nil
}

// begin notes what is present and not yet durable, and reports whether there may be anything new.
func (b *Blob) begin() (sets uint64, fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sets = b.pres.sets.Load() // before the bits are looked at: what is set meanwhile is for the next checkpoint
	if sets == b.saved {
		return sets, false
	}
	b.pending = make([]uint32, len(b.rec.durable))
	for i, w := range b.rec.durable {
		b.pending[i] = b.pres.word(i) &^ w
	}
	return sets, true
}

// unmark makes everything absent that is not durable. The caller holds b.mu.
func (b *Blob) unmark() {
	b.losing.Lock()
	defer b.losing.Unlock()
	for i, w := range b.rec.durable {
		b.pres.clear(i, ^w)
	}
}

// nameDurably makes sure, once, that file and record have their names after a power cut. The caller holds b.mu.
func (b *Blob) nameDurably() error {
	if b.named {
		return nil
	}
	if err := atomicfile.SyncDir(b.store.BlobDir()); err != nil {
		return fmt.Errorf("sync directory %s: %w", b.store.BlobDir(), err)
	}
	b.named = true
	return nil
}

// Forget makes frames absent, for good: when it returns nil, no power cut brings them back, and their bytes may be overwritten or given to [Blob.Punch]. After an
// error they are absent for now, and their bytes must stay. It costs one sync of the record, however many frames there are.
//
// Whoever calls it sees to it that no reader relies on the bytes any more, and that nobody fetches the frames at the same time.
func (b *Blob) Forget(frames ...int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range frames {
		word, bit := i/32, uint32(1)<<(i%32)
		b.pres.clear(word, bit)
		b.rec.clearDurable(word, bit)
		if b.pending != nil {
			b.pending[word] &^= bit
		}
	}
	b.forgotten.Add(1) // when the bits are cleared, and before bytes change
	return b.rec.write(b.sync)
}

// Forgotten is how often Forget was called so far. Bytes that were read from a frame that was present count if the number is the same before and after.
func (b *Blob) Forgotten() uint64 { return b.forgotten.Load() }

// Punch gives back the disk space of n bytes at off, which read as zeros from then on. No frame in the range may be present: see [Blob.Forget].
func (b *Blob) Punch(off, n int64) error {
	if err := unix.Fallocate(int(b.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
		return fmt.Errorf("give back %d bytes at %d of %s: %w", n, off, b.f.Name(), err)
	}
	return nil
}

// OnFailure sets who is told of checkpoints in the background that failed.
func (s *Store) OnFailure(f func(blob string, err error)) { s.onFailure.Store(&f) }

func (s *Store) report(blob string, err error) {
	if f := s.onFailure.Load(); f != nil {
		(*f)(blob, err)
	}
}

// hurry has the next checkpoint begin now.
func (s *Store) hurry() {
	select {
	case s.hurried <- struct{}{}:
	default: // somebody said so already
	}
}

// checkpoints writes checkpoints of open blobs, one blob at a time, until ctx is done.
func (s *Store) checkpoints(ctx context.Context) {
	tick := time.NewTicker(checkpointInterval)
	defer tick.Stop()
	for {
		least := int64(0)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.hurried:
			least = checkpointBytes
		}
		for _, b := range s.opened() {
			if b.unsynced.Load() < least {
				continue
			}
			if err := b.Checkpoint(); err != nil {
				s.report(b.id, err)
			}
		}
	}
}

// opened returns the blobs that are open, or were a moment ago.
func (s *Store) opened() []*Blob {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.open))
}
