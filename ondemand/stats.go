package ondemand

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"
)

// Stats is what an engine has done since it was made.
type Stats struct {
	Requests int64 // ranges asked of backends
	Retries  int64 // of them, for frames that had failed before
	Hedges   int64 // of them, because an earlier one was slow
	Errors   int64 // requests that failed or brought corrupt bytes
	Received int64 // source bytes received
	Failed   int64 // kernel requests answered with an error
	Active   int64 // backend requests under way
	Waiting  int64 // kernel requests that wait for bytes

	// Source bytes that were verified and written, by why they were fetched.
	Demand, Ahead, Around, Prefetch int64
	// Useless are those that were received for nothing.
	Useless int64

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

// stats counts kernel requests.
type stats struct {
	failed, waiting atomic.Int64
	misses, ownTime prometheus.Histogram // seconds

	mu         *sync.Mutex
	own, total *hdrhistogram.Histogram // microseconds
}

// sourceStats counts what was asked of one kind of backend.
type sourceStats struct {
	requests, bytes                                      [classes]atomic.Int64
	received, retries, hedges, hedgesWon, errors, active atomic.Int64
	latency, reads                                       prometheus.Histogram // seconds
}

// seconds are the buckets of all histograms: 50 µs to half a minute. A miss from a local source and one over a bad link both lie well inside.
func seconds(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(50e-6, 2.4, 16)})
}

func newStats() stats {
	// 1 µs to 10 min, two significant digits: 25 KiB each.
	return stats{
		mu: new(sync.Mutex), own: hdrhistogram.New(1, 600_000_000, 2), total: hdrhistogram.New(1, 600_000_000, 2),
		misses:  seconds("pagein_kernel_request_duration_seconds", "Time from a kernel request for missing bytes to their being there."),
		ownTime: seconds("pagein_kernel_request_own_duration_seconds", "The daemon's own share of kernel requests that started a fetch."),
	}
}

func newSourceStats() *sourceStats {
	return &sourceStats{latency: seconds("latency", ""), reads: seconds("reads", "")}
}

// observe counts a request that succeeded after total, of which backend was spent waiting for its backend.
func (s *stats) observe(total, backend time.Duration) {
	s.ownTime.Observe(max(total-backend, 0).Seconds())
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
	st := Stats{Failed: e.stats.failed.Load(), Waiting: e.stats.waiting.Load(), Active: e.active.Load()}
	e.mu.Lock()
	for _, s := range e.kinds {
		for c := range classes {
			st.Requests += s.requests[c].Load()
		}
		st.Retries += s.retries.Load()
		st.Hedges += s.hedges.Load()
		st.Errors += s.errors.Load()
		st.Received += s.received.Load()
		st.Demand += s.bytes[demand].Load()
		st.Ahead += s.bytes[ahead].Load()
		st.Around += s.bytes[around].Load()
		st.Prefetch += s.bytes[prefetch].Load()
	}
	e.mu.Unlock()
	st.Useless = max(st.Received-st.Demand-st.Ahead-st.Around-st.Prefetch, 0) // not counting what is on its way into place
	s := &e.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Own, st.Total = quantiles(s.own), quantiles(s.total)
	return st
}
