package node

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pagein/pagein/node/control"
)

// newMountTimes measures from a mount request to the mount.
func newMountTimes() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "pagein_mount_duration_seconds", Help: "Time from the request to mount an image until it is ready to be read.",
		Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 12),
	})
}

// scrapeTimeout bounds the answer to a request for metrics.
const scrapeTimeout = 10 * time.Second

// Metrics answers requests for the node's metrics in Prometheus' format. Labels never name images, so there are as many series with one image as with a thousand.
func (n *Node) Metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(n.engine, n.mountTimes, &nodeCollector{n}, &healthCollector{n}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: scrapeTimeout, ErrorHandling: promhttp.ContinueOnError})
}

// Ready returns nil while images can be mounted, or why they cannot.
func (n *Node) Ready(context.Context) error {
	if err := n.enter(); err != nil {
		return err
	}
	defer n.mu.Unlock()
	for _, t := range n.transports.status() {
		if t.Available {
			if problem := n.evictor.problem(); !errors.Is(problem, errReserve) { // with that, there still is some space
				return problem
			}
			return nil
		}
	}
	return errors.New("no transport works with this kernel and this store")
}

// nodeCollector describes the mount table and the store.
type nodeCollector struct{ n *Node }

var (
	buildDesc = prometheus.NewDesc("pagein_build_info", "Always 1.", []string{"version"}, nil)
	imageDesc = prometheus.NewDesc("pagein_images", "Images that are mounted, or should be.", []string{"transport", "state"}, nil)
	blobDesc  = prometheus.NewDesc("pagein_blobs", "Blobs of attached images.", nil, nil)
	sizeDesc  = prometheus.NewDesc("pagein_image_bytes", "Blob bytes of attached images, uncompressed.", []string{"present"}, nil)

	cacheDesc   = prometheus.NewDesc("pagein_cache_bytes", "Disk space that the store's blobs and metadata images take.", nil, nil)
	limitDesc   = prometheus.NewDesc("pagein_cache_limit_bytes", "Watermarks of the cache: eviction begins above high and ends at low. Parts of the disk are given in its bytes in use.", []string{"watermark"}, nil)
	limitedDesc = prometheus.NewDesc("pagein_cache_limited_bytes", "What the watermarks of the cache are compared with: the store's blobs and metadata images, or all that is in use of the disk where they are parts of it.", nil, nil)
	freeDesc    = prometheus.NewDesc("pagein_disk_free_bytes", "Free space on the store's disk.", nil, nil)
	reserveDesc = prometheus.NewDesc("pagein_disk_reserve_bytes", "Space that is kept for readers on a full disk; 0 while it is given up.", nil, nil)
	fullDesc    = prometheus.NewDesc("pagein_disk_full", "1 while the store's disk is full and all of the store is in use.", nil, nil)
	untrackDesc = prometheus.NewDesc("pagein_cache_untracked_blobs", "Mounted blobs of which no range can be evicted, although the configuration wants that.", nil, nil)
	evictedDesc = prometheus.NewDesc("pagein_evicted_bytes_total", "Disk space of the store given back.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (c *nodeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{buildDesc, imageDesc, blobDesc, sizeDesc, cacheDesc, limitDesc, limitedDesc, freeDesc, reserveDesc, fullDesc, untrackDesc, evictedDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *nodeCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(buildDesc, 1, c.n.cfg.Version)
	if cache, err := c.n.cacheStatus(); err != nil {
		out <- prometheus.NewInvalidMetric(cacheDesc, err)
	} else {
		gauge(cacheDesc, float64(cache.Bytes))
		gauge(limitDesc, float64(max(cache.HighBytes, part(cache.TotalBytes, cache.HighPercent))), "high")
		gauge(limitDesc, float64(max(cache.LowBytes, part(cache.TotalBytes, cache.LowPercent))), "low")
		limited := cache.Bytes
		if cache.HighPercent > 0 {
			limited = cache.TotalBytes - cache.FreeBytes
		}
		gauge(limitedDesc, float64(limited))
		gauge(freeDesc, float64(cache.FreeBytes))
		gauge(reserveDesc, float64(cache.ReserveBytes))
		full := 0.0
		if cache.Full {
			full = 1
		}
		gauge(fullDesc, full)
		gauge(untrackDesc, float64(cache.Untracked))
		for reason, bytes := range cache.Evicted {
			out <- prometheus.MustNewConstMetric(evictedDesc, prometheus.CounterValue, float64(bytes), reason)
		}
	}
	t := c.n.census()
	for k, n := range t.images {
		gauge(imageDesc, float64(n), k.transport, k.state)
	}
	gauge(blobDesc, float64(t.blobs))
	gauge(sizeDesc, float64(t.present), "true")
	gauge(sizeDesc, float64(t.total-t.present), "false")
}

// imageKind is what images are counted by.
type imageKind struct{ transport, state string }

// table sums up the mount table.
type table struct {
	images         map[imageKind]int
	blobs          int
	total, present int64 // bytes
}

// census sums up the mount table.
func (n *Node) census() table {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := table{images: make(map[imageKind]int)}
	if n.closed {
		return t
	}
	seen := make(map[string]bool)
	for _, img := range n.images {
		state, _ := img.state()
		t.images[imageKind{img.transport.Name(), string(state)}]++
		for _, b := range img.attached.Blobs {
			if !seen[b.ID()] {
				seen[b.ID()] = true
				t.blobs++
				t.total += b.Size()
				t.present += img.present(b)
			}
		}
	}
	for _, i := range slices.Concat(n.lost, n.absent) {
		if i.problem != nil {
			t.images[imageKind{i.Transport, string(control.Lost)}]++
		}
	}
	return t
}
