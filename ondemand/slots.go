package ondemand

import (
	"context"
	"slices"
	"sync"
)

// class says why bytes are fetched. Lower ones go first.
type class int

const (
	demand   class = iota // somebody waits for them
	ahead                 // a sequential reader will want them presently
	around                // a guess from what was read nearby
	prefetch              // everything, by and by
	classes
)

var classNames = [classes]string{"demand", "ahead", "around", "prefetch"}

// String is the class's name in metrics.
func (c class) String() string { return classNames[c] }

// idle reports whether the class is for time in which the link has nothing better to do.
func (c class) idle() bool { return c >= around }

// slots is a semaphore with priorities. Idle classes get a share of it only, so that demand always finds room soon.
type slots struct {
	mu     sync.Mutex
	free   int
	idle   int // of the free ones, how many idle classes may take
	queues [classes][]*ticket
}

// ticket is one claim to a slot, for one acquire and one release.
type ticket struct {
	class   class
	idle    bool          // its slot counts as idle
	granted chan struct{} // closed when the slot is had
	queued  bool
	held    bool
}

// idleShare is the part of the slots that idle classes may have: one in idleShare, but at least one if there are two.
const idleShare = 4

func newSlots(n int) *slots {
	return &slots{free: n, idle: min(max(n/idleShare, 1), n-1)}
}

func newTicket(c class) *ticket { return &ticket{class: c, granted: make(chan struct{})} }

// acquire waits for a slot. When it fails, the ticket holds none.
func (s *slots) acquire(ctx context.Context, t *ticket) error {
	s.enqueue(t)
	return s.wait(ctx, t)
}

// enqueue puts the ticket behind those of its class.
func (s *slots) enqueue(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.queued = true
	s.queues[t.class] = append(s.queues[t.class], t)
	s.grant()
}

// wait waits for the slot of a ticket that was enqueued. When it fails, the ticket holds none.
func (s *slots) wait(ctx context.Context, t *ticket) error {
	select {
	case <-t.granted:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.held { // in the same moment
		s.giveBack(t)
	} else {
		s.unqueue(t)
	}
	return context.Cause(ctx)
}

// grant hands out free slots. The caller holds s.mu.
func (s *slots) grant() {
	for c := range classes {
		for len(s.queues[c]) > 0 && s.free > 0 && (!c.idle() || s.idle > 0) {
			t := s.queues[c][0]
			s.queues[c] = s.queues[c][1:]
			t.queued, t.held, t.idle = false, true, c.idle()
			s.free--
			if t.idle {
				s.idle--
			}
			close(t.granted)
		}
	}
}

// spare takes a slot that is free, for something that is not worth waiting for; nil if there is none.
func (s *slots) spare() *ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		return nil
	}
	s.free--
	return &ticket{class: demand, held: true}
}

// release gives the slot back, if the ticket holds one.
func (s *slots) release(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.held {
		s.giveBack(t)
	}
}

func (s *slots) giveBack(t *ticket) {
	t.held = false
	s.free++
	if t.idle {
		s.idle++
		t.idle = false
	}
	s.grant()
}

func (s *slots) unqueue(t *ticket) {
	q := &s.queues[t.class]
	*q = slices.DeleteFunc(*q, func(o *ticket) bool { return o == t })
	t.queued = false
}

// promote makes the ticket one of demand, wherever it is.
func (s *slots) promote(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.queued {
		s.unqueue(t)
		t.queued = true
		s.queues[demand] = append(s.queues[demand], t)
	}
	t.class = demand
	if t.held && t.idle {
		t.idle = false
		s.idle++
	}
	s.grant()
}

// demote makes the slot that the ticket holds count as idle, and reports whether there was room for that.
func (s *slots) demote(t *ticket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.idle {
		return true
	}
	if s.idle <= 0 {
		return false
	}
	s.idle--
	t.idle = true
	return true
}
