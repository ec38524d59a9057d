package ondemand

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// firstLack is for how long nothing is fetched after a target had no space left; it doubles up to longestLack while one fetch after the other finds none.
	firstLack   = time.Second
	longestLack = 10 * time.Second
	// leastFreed is by how many bytes the free space must have grown for the next fetch not to wait for that.
	leastFreed = 256 << 10
)

// space remembers that the targets' disk is full: whatever would be fetched then would be thrown away. Its methods may be called concurrently.
type space struct {
	free  func() int64 // bytes on the disk; nil if that is not known
	tight atomic.Bool  // a write found no space, and what follows from that may still hold: while it is false, nobody who reads has to wait for mu

	mu   sync.Mutex
	lack error         // of the last write, nil while there is space
	left int64         // bytes that were free then
	next time.Time     // when one fetch may try whether there is some again
	wait time.Duration // from that to the next

	until time.Time // space counts as short
}

// short reports whether a write found no space lately, even if some was made for it: that is for what readers want, not for guesses.
func (s *space) short() bool {
	if !s.tight.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tight.Store(s.lack != nil || time.Now().Before(s.until))
	return s.tight.Load()
}

// missed notes that a write found no space, and that some may be made.
func (s *space) missed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now().Add(longestLack)
	s.tight.Store(true)
}

// admit returns nil for a fetch whose bytes there may be space for, and why there is none for others.
func (s *space) admit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch now := time.Now(); {
	case s.lack == nil:
		return nil
	case s.free != nil && s.free() >= s.left+leastFreed:
		return nil
	case now.Before(s.next):
		return fmt.Errorf("%w: nothing is fetched while there is no space for it: %w", errTarget, s.lack)
	default:
		s.next, s.wait = now.Add(s.wait), min(2*s.wait, longestLack)
		return nil
	}
}

// written notes how a write went in the end; err is nil or that there was no space.
func (s *space) written(err error) {
	if err == nil && !s.tight.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.lack == nil {
		s.next, s.wait = time.Now().Add(firstLack), 2*firstLack
	}
	if s.lack = err; err != nil {
		s.tight.Store(true)
		if s.free != nil {
			s.left = s.free()
		}
	}
}
