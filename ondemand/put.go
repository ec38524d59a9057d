package ondemand

import (
	"errors"
	"syscall"
)

// Putter is a [Target] that is its own presence, and writes and marks a frame in one step. Between a WriteAt and a Set a failing disk could lose the bytes of a frame that is
// marked afterwards.
type Putter interface {
	// Put writes a frame's bytes as WriteAt does and marks it as present.
	Put(frame int, p []byte, off int64) error
}

// roomTries is how often a write that finds no space is tried again after room was made.
const roomTries = 3

// put writes a frame to the target and marks it as present. It has room made for it if there is none.
func (bd *binding) put(frame int, p []byte, off int64) error {
	err := bd.tryPut(frame, p, off)
	if noSpace(err) {
		bd.space.missed()
	}
	for try := 0; try < roomTries && noSpace(err) && bd.room != nil && bd.room(); try++ {
		err = bd.tryPut(frame, p, off)
	}
	if err == nil || noSpace(err) {
		bd.space.written(err)
	}
	return err
}

// noSpace reports whether an error says that the disk, or somebody's share of it, is full.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func (bd *binding) tryPut(frame int, p []byte, off int64) error {
	if t, ok := bd.target.(Putter); ok {
		return t.Put(frame, p, off)
	}
	if _, err := bd.target.WriteAt(p, off); err != nil {
		return err
	}
	bd.presence.Set(frame)
	return nil
}
