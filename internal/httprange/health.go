package httprange

import (
	"sync"
	"time"
)

// Health remembers that a source failed. The zero value is well. Its methods may be called concurrently.
type Health struct {
	mu    sync.Mutex
	pause time.Duration // after the next failure
	until time.Time     // until then it is asked only if no other answers
}

const (
	minPause = 2 * time.Second
	maxPause = time.Minute
)

// Failed notes that the source, not only what it was asked for, is in trouble.
func (h *Health) Failed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Before(h.until) { // one outage fails many requests at the same time
		return
	}
	h.pause = min(max(2*h.pause, minPause), maxPause)
	h.until = now.Add(h.pause)
}

// Worked notes that the source answered.
func (h *Health) Worked() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pause, h.until = 0, time.Time{}
}

// Paused reports whether the source is better asked last.
func (h *Health) Paused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.until)
}
