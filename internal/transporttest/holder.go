package transporttest

import (
	"maps"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Holder keeps duplicates of descriptors in this process: what it holds outlives a transport, as what a keeper holds outlives a daemon. It may be used by several goroutines at once.
type Holder struct {
	floor int

	mu   sync.Mutex
	held map[string]int
}

// NewHolder returns a holder whose duplicates have numbers from floor on. The end of the test closes them.
func NewHolder(t testing.TB, floor int) *Holder {
	h := &Holder{floor: floor, held: make(map[string]int)}
	t.Cleanup(h.ReleaseAll)
	return h
}

// Hold keeps a duplicate, in place of what had that name.
func (h *Holder) Hold(name string, fd int) error {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, h.floor)
	if err != nil {
		return err
	}
	if err := h.Release(name); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[name] = dup
	return nil
}

// Release closes what has that name, if there is something.
func (h *Holder) Release(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	fd, ok := h.held[name]
	if !ok {
		return nil
	}
	delete(h.held, name)
	return unix.Close(fd)
}

// ReleaseAll closes all: who waits for an answer of a transport that is gone goes on.
func (h *Holder) ReleaseAll() {
	for name := range h.Held() {
		_ = h.Release(name)
	}
}

// Held is what is held: the numbers of the duplicates, by name.
func (h *Holder) Held() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.held)
}

// Take returns duplicates of what is held, as a new daemon gets them.
func (h *Holder) Take(t testing.TB) map[string]int {
	t.Helper()
	given := h.Held()
	for name, fd := range given {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, h.floor)
		if err != nil {
			t.Fatal(err)
		}
		given[name] = dup
	}
	return given
}
