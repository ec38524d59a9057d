package ondemand

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// average is a moving average of durations, the last eight or so. It starts as far away, and may be used concurrently.
type average struct{ ns atomic.Int64 }

func (a *average) add(d time.Duration) {
	old := a.ns.Load()
	// An update that is lost to a concurrent one does not matter.
	a.ns.CompareAndSwap(old, max(1, old+(int64(d)-old)/8))
	if old == 0 {
		a.ns.Store(max(1, int64(d)))
	}
}

func (a *average) value() time.Duration {
	if ns := a.ns.Load(); ns != 0 {
		return time.Duration(ns)
	}
	return time.Hour
}

// percentile returns the value that p percent of the durations do not exceed. There must be some.
func percentile(durations []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// latencies remembers how long answers took to begin. It may be used concurrently.
type latencies struct {
	mean average

	mu     sync.Mutex
	recent [recentLatencies]time.Duration
	n      int
	tail   atomic.Int64 // nanoseconds: what one in twenty of the recent ones exceeded; 0 while too few are known
}

// recentLatencies is how many answers the tail is taken from, and recountLatencies how often.
const (
	recentLatencies  = 128
	recountLatencies = 16
)

func (l *latencies) add(d time.Duration) {
	l.mean.add(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recent[l.n%recentLatencies] = d
	if l.n++; l.n%recountLatencies == 0 {
		l.tail.Store(int64(percentile(l.recent[:min(l.n, recentLatencies)], 95)))
	}
}

// late is how long to wait for an answer before asking again, 0 for never. It is half as long again as what one in twenty exceeds: those that are merely a little late
// would use up the budget.
func (l *latencies) late() time.Duration {
	tail := time.Duration(l.tail.Load())
	if tail == 0 || l.mean.value() < near {
		return 0
	}
	return max(tail+tail/2, minHedge)
}
