package units

import (
	"fmt"
	"io"
	"sync"
)

// Intake takes the units of one source. It is for one goroutine at a time, and must be closed.
type Intake struct {
	s    *Store
	open *job // small units that are gathered, or nil
	n    int  // units so far
	wg   sync.WaitGroup

	mu  sync.Mutex
	ids []ID // by the order of Small and Piece
}

// Intake returns an intake. No more than Options.Intakes may be open at a time.
func (s *Store) Intake() *Intake { return &Intake{s: s} }

// Units is the number of units so far.
func (in *Intake) Units() int { return in.n }

// Small takes the next n bytes of r, 1 to Options.MaxSmall, as a small unit.
func (in *Intake) Small(r io.Reader, n int) error {
	if n < 1 || n > in.s.o.MaxSmall {
		return fmt.Errorf("a small unit of %d bytes is not between 1 and %d", n, in.s.o.MaxSmall)
	}
	if in.open != nil && len(in.open.data)+padded(n) > batch {
		in.submit()
	}
	if err := in.need(smallUnits); err != nil {
		return err
	}
	in.n++
	return in.open.fill(r, n)
}

// Piece takes the next n bytes of r, 1 to Options.MaxPiece, as a piece.
func (in *Intake) Piece(r io.Reader, n int) error {
	if n < 1 || n > in.s.o.MaxPiece {
		return fmt.Errorf("a piece of %d bytes is not between 1 and %d", n, in.s.o.MaxPiece)
	}
	in.submit() // a source that waits for a job while it has one could wait for ever
	if err := in.need(onePiece); err != nil {
		return err
	}
	in.n++
	if err := in.open.fill(r, n); err != nil {
		return err
	}
	in.submit()
	return nil
}

// need makes sure that a job is open.
func (in *Intake) need(k kind) error {
	if in.open != nil {
		return in.s.err()
	}
	j, err := in.s.job()
	if err != nil {
		return err
	}
	j.kind, j.in, j.first = k, in, in.n
	in.open = j
	return nil
}

// submit hands the open job to the workers.
func (in *Intake) submit() {
	if in.open == nil {
		return
	}
	in.wg.Add(1)
	in.s.work <- in.open // has room for all jobs
	in.open = nil
}

// put notes which units were taken.
func (in *Intake) put(first int, ids []ID) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if need := first + len(ids); need > len(in.ids) {
		in.ids = append(in.ids, make([]ID, need-len(in.ids))...)
	}
	copy(in.ids[first:], ids)
}

// Close waits until all units are kept and returns their IDs in the order of Small and Piece.
func (in *Intake) Close() ([]ID, error) {
	in.submit()
	in.wg.Wait()
	return in.ids, in.s.err()
}
