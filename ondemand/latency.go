package ondemand

import (
	"slices"
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
