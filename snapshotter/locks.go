package snapshotter

import (
	"context"
	"sync"
)

// locks are mutual exclusions by name. The zero value is ready.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when the name is free
}

// lock waits until the name is free, or ctx is done, and takes it until the returned function is called.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		free, taken := l.held[name]
		if !taken {
			if l.held == nil {
				l.held = make(map[string]chan struct{})
			}
			free = make(chan struct{})
			l.held[name] = free
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.held, name)
				close(free)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
