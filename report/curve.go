package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/pagein/pagein/node/control"
)

// rateWindow is how long bytes must have come at a rate for it to count as that of the link.
const rateWindow = 200 * time.Millisecond

// leastForRate is how many bytes must have come in that time: less says nothing of a link.
const leastForRate = 256 << 10

// Curve is how many bytes there were when.
type Curve struct {
	Step     time.Duration `json:"step_ns,omitempty"`
	Start    time.Duration `json:"start_ns"`            // of the first step
	Lazy     []int64       `json:"lazy,omitempty"`      // compressed bytes that had been fetched at the end of each step
	Touched  []Point       `json:"touched,omitempty"`   // of a profile alone: bytes that had been touched, uncompressed
	Link     float64       `json:"link,omitempty"`      // bytes per second that the others are computed with, 0 if that is not known
	Measured bool          `json:"link_seen,omitempty"` // it is the most that came in 200 ms of this recording

	// Computed with Link, from the moment at which the mount was there: all that readers wanted, one byte after the other, and the whole image; without the time to
	// unpack it. 0 if Link is not known.
	Prefetched    time.Duration `json:"prefetched_ns,omitempty"` // until it would have been there
	PrefetchBytes int64         `json:"prefetched_bytes,omitempty"`
	Full          time.Duration `json:"full_ns,omitempty"`
	FullBytes     int64         `json:"full_bytes,omitempty"`
}

// Point is a point of a curve.
type Point struct {
	At    time.Duration `json:"at_ns"`
	Bytes int64         `json:"bytes"`
}

func makeCurve(r *Report, t *control.Timeline, link float64) Curve {
	c := Curve{Link: link}
	if t == nil {
		c.Touched = slices.Clone(r.progress)
		slices.SortStableFunc(c.Touched, func(a, b Point) int { return cmp.Compare(a.At, b.At) })
		for k := 1; k < len(c.Touched); k++ { // merged profiles are in the order of ranks
			c.Touched[k].Bytes = max(c.Touched[k].Bytes, c.Touched[k-1].Bytes)
		}
		return c
	}
	c.Step, c.Start = t.Step, t.Began.Sub(r.Began)
	for _, curve := range t.Curves {
		c.Lazy = append(c.Lazy, make([]int64, max(len(curve.Bytes)-len(c.Lazy), 0))...)
	}
	for k := range c.Lazy {
		for _, curve := range t.Curves {
			c.Lazy[k] += curve.Bytes[min(k, len(curve.Bytes)-1)]
		}
	}
	if link == 0 {
		c.Link = fastest(c.Lazy, c.Step)
		c.Measured = c.Link > 0
	}
	if r.Image.Bytes > 0 {
		c.PrefetchBytes = int64(float64(r.Image.ReadBytes) * float64(r.Image.Compressed) / float64(r.Image.Bytes))
	}
	c.FullBytes = r.Image.Compressed
	if c.Link > 0 {
		c.Prefetched = time.Duration(float64(c.PrefetchBytes) / c.Link * float64(time.Second))
		c.Full = time.Duration(float64(c.FullBytes) / c.Link * float64(time.Second))
	}
	return c
}

// fastest is the most bytes per second that came in a window, 0 if so little came that it says nothing.
func fastest(sums []int64, step time.Duration) (rate float64) {
	if step <= 0 {
		return 0
	}
	n := max(int(rateWindow/step), 1)
	for k := range sums {
		before := int64(0)
		if k >= n {
			before = sums[k-n]
		}
		if got := sums[k] - before; got >= leastForRate {
			rate = max(rate, float64(got)/(time.Duration(n)*step).Seconds())
		}
	}
	return rate
}
