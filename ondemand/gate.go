package ondemand

import (
	"context"
	"sync"
	"time"
)

// gate holds what is fetched in idle time back while readers wait for other bytes.
type gate struct {
	mu     sync.Mutex
	urgent int           // jobs that readers wait for, and whose source is well
	open   chan struct{} // closed when there are none; nil when there are none
}

// longestHold is the longest time for which a request under way is held back at each of its frames: servers hang up on clients that do not read.
const longestHold = 2 * time.Second

// enter says that a reader waits.
func (g *gate) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.urgent++; g.urgent == 1 {
		g.open = make(chan struct{})
	}
}

// leave says that it does so no more.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.urgent--; g.urgent == 0 {
		close(g.open)
		g.open = nil
	}
}

// wait returns when no reader waits, when called is closed, when it took too long, or when ctx is done.
func (g *gate) wait(ctx context.Context, called <-chan struct{}) {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open == nil {
		return
	}
	limit := time.NewTimer(longestHold)
	defer limit.Stop()
	select {
	case <-open:
	case <-called:
	case <-limit.C:
	case <-ctx.Done():
	}
}

// waiting is the number of jobs that readers wait for, and whose source is well.
func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.urgent
}
