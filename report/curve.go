package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
)

// rateWindow is how long bytes must have come at a rate for it to count as that of the link; twice as long is as good, as nothing may begin or end just then.
const rateWindow = 200 * time.Millisecond

// leastForRate is how many bytes must have come in that time: less says nothing of a link.
const leastForRate = 256 << 10

// Curve is how many bytes there were when.
type Curve struct {
	Lazy     []Point `json:"lazy,omitempty"`      // compressed bytes that had been fetched
	Touched  []Point `json:"touched,omitempty"`   // of a profile alone: bytes that had been touched, uncompressed
	Link     float64 `json:"link,omitempty"`      // bytes per second that the others are computed with, 0 if that is not known
	Measured bool    `json:"link_seen,omitempty"` // it is the most that came in 200 ms of this recording

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
	sums := make([]int64, len(t.Steps))
	for k := range sums {
		for _, curve := range t.Curves {
			sums[k] += curve.Bytes[k]
		}
	}
	c.Lazy = points(t.Steps, sums, t.Began.Sub(r.Began))
	if link == 0 {
		c.Link = fastest(t.Steps, sums)
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

// points are the corners of a curve that rises in steps, which count from base.
func points(steps []timeline.Step, sums []int64, base time.Duration) (all []Point) {
	before := int64(0)
	for k, step := range steps {
		if step.From < step.To {
			all = append(all, Point{base + step.From, before})
		}
		before = sums[k]
		all = append(all, Point{base + step.To, before})
	}
	return all
}

// fastest is the most bytes per second that came in a window, 0 if so little came, or for so short a time, that it says nothing.
func fastest(steps []timeline.Step, sums []int64) (rate float64) {
	first := 0
	for k, step := range steps {
		for first < k && step.To-steps[first+1].From >= rateWindow {
			first++
		}
		took, got := step.To-steps[first].From, sums[k]
		if first > 0 {
			got -= sums[first-1]
		}
		if got >= leastForRate && took >= rateWindow && took <= 2*rateWindow {
			rate = max(rate, float64(got)/took.Seconds())
		}
	}
	return rate
}

// reached is how high a curve is at a time.
func reached(curve []Point, at time.Duration) int64 {
	k, _ := slices.BinarySearchFunc(curve, at, func(p Point, at time.Duration) int { return cmp.Compare(p.At, at+1) })
	if k == 0 {
		return 0
	}
	last := curve[k-1]
	if k == len(curve) {
		return last.Bytes
	}
	next := curve[k]
	return last.Bytes + int64(float64(next.Bytes-last.Bytes)*float64(at-last.At)/float64(next.At-last.At))
}
