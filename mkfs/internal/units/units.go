// Package units takes file data in units and keeps each distinct one once, ready to be put into blobs.
//
// A unit is a small file, or a piece of a larger one that will be a frame by itself; it is padded with zeros to whole blocks and known by the SHA-256 of
// that. Workers compute digests and compress. Which of several equal units comes first depends on timing, and nothing else does: equal bytes are compressed
// to equal bytes, so whoever reads a [Unit] by its [ID] cannot tell. The package must not know files, trees, or in what order units go where.
//
// The idea to hold in mind: pieces of large files are compressed at once, as nothing that comes later can change their frame; small files wait as they are
// until it is clear which of them share a frame. Both wait in one temporary file without a name.
package units

import (
	"context"
	"fmt"
	"sync"

	"github.com/pagein/pagein/blob"
)

// Options of a [Store].
type Options struct {
	MaxSmall int // bytes of the longest small unit
	MaxPiece int // bytes of the longest piece, and of the longest frame of small units
	Level    blob.Level
	Workers  int    // units hashed and compressed at the same time, at least 1
	Intakes  int    // sources that are read at the same time, at least 1
	TempDir  string // "" means the system's directory
}

// ID names a unit of a [Store]. IDs of small units and of pieces are apart. They count from 0 without gaps, but in no order that means something.
type ID uint32

// Unit is what is known of a unit, and of a frame that was made of small ones.
type Unit struct {
	Digest [32]byte
	Off    int64      // where it is stored in the temporary file
	Len    uint32     // bytes with padding
	Stored uint32     // bytes of its stored form
	Codec  blob.Codec // of its stored form; small units are raw
}

// Store keeps units. Its methods may be called concurrently. It must be closed.
type Store struct {
	o      Options
	ctx    context.Context
	cancel context.CancelCauseFunc
	spool  spool
	small  *table
	pieces *table
	free   chan *job
	work   chan *job
	wg     sync.WaitGroup
}

// New returns an empty store. It fails, and what waits for it, when ctx ends.
func New(ctx context.Context, o Options) (*Store, error) {
	s := &Store{o: o, small: newTable(), pieces: newTable()}
	if err := s.spool.open(o.TempDir); err != nil {
		return nil, err
	}
	// Each source fills one job, each worker has one, and as many wait for workers.
	jobs := o.Intakes + 2*o.Workers
	s.free, s.work = make(chan *job, jobs), make(chan *job, jobs)
	for range jobs {
		s.free <- &job{}
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	context.AfterFunc(s.ctx, func() {
		s.small.fail()
		s.pieces.fail()
	})
	for range o.Workers {
		s.wg.Go(s.run)
	}
	return s, nil
}

// Close frees everything. No unit can be read any more.
func (s *Store) Close() error {
	s.cancel(nil)
	s.Finish()
	return s.spool.close()
}

// Finish ends the workers and frees what only they need. What is stored can still be read; nothing can be added, and no intake may be open.
func (s *Store) Finish() {
	if s.work != nil {
		close(s.work)
		s.wg.Wait()
		s.work, s.free = nil, nil
		s.small.freeze()
		s.pieces.freeze()
	}
}

// Small returns a small unit.
func (s *Store) Small(id ID) (Unit, error) { return s.get(s.small, id) }

// Piece returns a piece.
func (s *Store) Piece(id ID) (Unit, error) { return s.get(s.pieces, id) }

func (s *Store) get(t *table, id ID) (Unit, error) {
	u, ok := t.get(id)
	if !ok {
		return u, s.err()
	}
	return u, nil
}

// ReadAt reads stored forms: see [Unit].
func (s *Store) ReadAt(p []byte, off int64) (int, error) { return s.spool.ReadAt(p, off) }

// fail makes everything that waits for the store end with err.
func (s *Store) fail(err error) { s.cancel(err) }

// err says why the store failed, if it did.
func (s *Store) err() error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

// job returns an empty job.
func (s *Store) job() (*job, error) {
	select {
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	case j := <-s.free:
		j.reset()
		return j, nil
	}
}

// run works until there are no more jobs.
func (s *Store) run() {
	enc, err := blob.NewEncoder(s.o.Level, s.o.MaxPiece)
	if err != nil {
		s.fail(err)
	} else {
		defer enc.Close()
	}
	for j := range s.work {
		if s.ctx.Err() == nil {
			if err := j.do(s, enc); err != nil {
				s.fail(fmt.Errorf("keep file data: %w", err))
			}
		}
		j.done()
		s.free <- j // has room for all jobs
	}
}
