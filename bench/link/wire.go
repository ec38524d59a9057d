package link

import (
	"sync"
	"time"
)

// wire is one direction of a link: a queue that is served at a fixed rate, first come, first served.
type wire struct {
	rate int64 // bytes per second

	mu   sync.Mutex
	free time.Time // when the last byte queued so far will have left
}

// reserve queues n bytes and returns when the last of them will have left the wire.
func (w *wire) reserve(n int) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(int64(n) * int64(time.Second) / w.rate))
	return w.free
}
