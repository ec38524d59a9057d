package ondemand

import "github.com/prometheus/client_golang/prometheus"

var _ prometheus.Collector = (*Engine)(nil)

// Describe implements prometheus.Collector. What there is depends on the backends in use, so nothing is promised.
func (e *Engine) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. Labels are the kinds of backends and the reasons to fetch: a dozen or two, however many images there are.
func (e *Engine) Collect(out chan<- prometheus.Metric) {
	number := func(kind prometheus.ValueType, name, help string, v int64, labels ...string) {
		var names []string
		switch len(labels) {
		case 1:
			names = []string{"backend"}
		case 2:
			names = []string{"backend", "reason"}
		}
		m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, float64(v), labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
		out <- m
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	e.mu.Lock()
	defer e.mu.Unlock()
	for kind, s := range e.kinds {
		for c := range classes {
			number(counter, "pagein_backend_requests_total", "Ranges asked of backends.", s.requests[c].Load(), kind, c.String())
			number(counter, "pagein_fetched_bytes_total", "Bytes fetched, verified and stored, before decompression.", s.bytes[c].Load(), kind, c.String())
		}
		number(counter, "pagein_backend_received_bytes_total", "Bytes received, also those that were of no use.", s.received.Load(), kind)
		number(counter, "pagein_backend_errors_total", "Requests that failed or brought corrupt bytes.", s.errors.Load(), kind)
		number(counter, "pagein_backend_retries_total", "Requests for what had failed before.", s.retries.Load(), kind)
		number(counter, "pagein_backend_hedges_total", "Second requests made because the first was slow.", s.hedges.Load(), kind)
		number(counter, "pagein_backend_hedges_won_total", "Second requests that were answered first.", s.hedgesWon.Load(), kind)
		number(gauge, "pagein_backend_in_flight_requests", "Requests under way.", s.active.Load(), kind)
		out <- relabelled{s.latency, prometheus.NewDesc("pagein_backend_answer_duration_seconds", "Time until the answer to a request begins.", nil, prometheus.Labels{"backend": kind})}
		out <- relabelled{s.reads, prometheus.NewDesc("pagein_backend_read_duration_seconds", "Time until the answer to a request is read, or given up.", nil, prometheus.Labels{"backend": kind})}
	}
	number(counter, "pagein_kernel_request_errors_total", "Kernel requests that ended in an error.", e.stats.failed.Load())
	number(gauge, "pagein_blocked_readers", "Kernel requests that wait for bytes.", e.stats.waiting.Load())
	out <- e.stats.misses
	out <- e.stats.ownTime
}

// relabelled is a histogram under another description.
type relabelled struct {
	prometheus.Histogram
	desc *prometheus.Desc
}

// Desc implements prometheus.Metric.
func (r relabelled) Desc() *prometheus.Desc { return r.desc }
