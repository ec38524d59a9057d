package units

import "context"

// Frame is a frame of small units that is being made.
type Frame struct {
	s    *Store
	unit Unit
	done chan struct{}
}

// Frame begins to make a frame of small units, in this order.
func (s *Store) Frame(members []ID) (*Frame, error) {
	j, err := s.job()
	if err != nil {
		return nil, err
	}
	f := &Frame{s: s, done: make(chan struct{})}
	j.kind, j.frame, j.members = makeFrame, f, append(j.members, members...)
	s.work <- j
	return f, nil
}

// Wait returns the finished frame.
func (f *Frame) Wait() (Unit, error) {
	select {
	case <-f.done:
	case <-f.s.ctx.Done():
		return Unit{}, context.Cause(f.s.ctx)
	}
	return f.unit, f.s.err()
}
