package ondemand

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Stats is what an engine has done since it was made.
type Stats struct {
	Requests int64 // ranges asked of backends
	Retries  int64 // of them, for frames that had failed before
	Errors   int64 // requests that failed or brought corrupt bytes
	Received int64 // source bytes received
	Failed   int64 // kernel requests answered with an error
	// Own is the daemon's own share of the kernel requests that started a fetch: from the call of Fill to its return, less the time spent waiting for
	// the backend. Requests that found their frames present, or on their way for somebody else, are not in it.
	Own Quantiles
	// Total is the same with the backend's time.
	Total Quantiles
}

// Quantiles describes a distribution of durations.
type Quantiles struct {
	Count    int64
	P50, P99 time.Duration
	Max      time.Duration
}

type stats struct {
	requests, retries, errors, received, failed atomic.Int64
	active                                      atomic.Int64 // backend requests under way

	mu         *sync.Mutex
	own, total *hdrhistogram.Histogram // microseconds
}

func newStats() stats {
	// 1 µs to 10 min, two significant digits: 25 KiB each.
	return stats{mu: new(sync.Mutex), own: hdrhistogram.New(1, 600_000_000, 2), total: hdrhistogram.New(1, 600_000_000, 2)}
}

// observe counts a request that succeeded after total, of which backend was spent waiting for its backend.
func (s *stats) observe(total, backend time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A value outside the histogram's range cannot be recorded; both are clamped into it.
	_ = s.own.RecordValue(clamp(total - backend))
	_ = s.total.RecordValue(clamp(total))
}

func clamp(d time.Duration) int64 {
	return min(max(d.Microseconds(), 1), 600_000_000)
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	us := func(v int64) time.Duration { return time.Duration(v) * time.Microsecond }
	return Quantiles{Count: h.TotalCount(), P50: us(h.ValueAtQuantile(50)), P99: us(h.ValueAtQuantile(99)), Max: us(h.Max())}
}

// Stats returns a snapshot.
func (e *Engine) Stats() Stats {
	s := &e.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Requests: s.requests.Load(), Retries: s.retries.Load(), Errors: s.errors.Load(), Received: s.received.Load(), Failed: s.failed.Load(),
		Own: quantiles(s.own), Total: quantiles(s.total),
	}
}
