package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pagein/pagein/node/control"
)

// storeCheck is what the last check of the store found.
type storeCheck struct {
	at       time.Time // zero = there was none
	problems int64     // 0 if all of them were repaired
}

// noteCheck remembers the outcome of a check of the store.
func (n *Node) noteCheck(r control.CheckResponse) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.checked = storeCheck{at: time.Now()}
	if !r.OK {
		n.checked.problems = r.Problems
	}
}

// holderLost reports whether what mounts depend on is held by this process alone.
func (n *Node) holderLost() bool { return n.cfg.HolderLost != nil && n.cfg.HolderLost() }

// healthCollector tells what is wrong with the daemon itself.
type healthCollector struct{ n *Node }

var (
	keeperDesc   = prometheus.NewDesc("pagein_keeper_present", "1 while there is a keeper; without one, mounts do not outlive the daemon.", nil, nil)
	takenDesc    = prometheus.NewDesc("pagein_mounts_taken_away_total", "Mounts unmounted at the start because their bytes could not be trusted any more.", nil, nil)
	unsavedDesc  = prometheus.NewDesc("pagein_state_unsaved", "1 while what is mounted is not recorded on the disk.", nil, nil)
	problemsDesc = prometheus.NewDesc("pagein_store_check_problems", "Problems that the last check of the store found; 0 if it repaired all of them.", nil, nil)
	checkedDesc  = prometheus.NewDesc("pagein_store_check_timestamp_seconds", "When the last check of the store ended.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *healthCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keeperDesc, takenDesc, unsavedDesc, problemsDesc, checkedDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *healthCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	flag := func(d *prometheus.Desc, is bool) {
		v := 0.0
		if is {
			v = 1
		}
		gauge(d, v)
	}
	c.n.mu.Lock()
	taken, unsaved, checked := c.n.takenAway, c.n.unsaved != nil, c.n.checked
	c.n.mu.Unlock()
	flag(keeperDesc, !c.n.holderLost())
	flag(unsavedDesc, unsaved)
	out <- prometheus.MustNewConstMetric(takenDesc, prometheus.CounterValue, float64(taken))
	if !checked.at.IsZero() {
		gauge(problemsDesc, float64(checked.problems))
		gauge(checkedDesc, float64(checked.at.Unix()))
	}
}
