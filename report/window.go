package report

import (
	"cmp"
	"slices"
	"time"
)

const (
	// quiet is how long nothing happens at least between what belongs together, and quietTimes how many times as long as what was before.
	quiet      = 20 * time.Second
	quietTimes = 3
	// lateStart is from when on what happened is shown without the time before it.
	lateStart = 10 * time.Second
)

// window is the time that is drawn. An image is read for a moment and then for hours hardly at all: who draws all of that shows nothing.
type window struct {
	from, to time.Duration
	outside  int // stretches of files that are not drawn
}

// window is around the stretch in which readers waited longest, and which ends where nothing happens for long.
func (r *Report) window() window {
	var bars []bar
	for _, f := range r.Files {
		bars = append(bars, f.bars...)
	}
	slices.SortFunc(bars, func(a, b bar) int { return cmp.Compare(a.at, b.at) })
	best, most := window{0, r.Length, 0}, -1
	for waited := time.Duration(-1); len(bars) > 0; {
		first, n, end, sum := bars[0].at, 1, bars[0].at+bars[0].took, bars[0].took
		for ; n < len(bars) && bars[n].at-end <= max(quiet, quietTimes*(end-first)); n++ {
			end = max(end, bars[n].at+bars[n].took)
			sum += bars[n].took
		}
		best.outside += n
		if sum > waited || sum == waited && n > most {
			best.from, best.to, waited, most = first, end, sum, n
		}
		bars = bars[n:]
	}
	if most < 0 {
		if lazy := r.Curve.Lazy; len(lazy) > 0 { // all came before somebody wanted it
			best.to = max(best.to, lazy[len(lazy)-1].At)
		}
		return best
	}
	best.outside -= most
	if best.from < lateStart {
		best.from = 0
	} else {
		best.from -= (best.to - best.from) / 20
	}
	if !r.Measured && best.outside == 0 {
		best.to = r.Length // until ready
	}
	best.to = max(best.to, best.from+time.Millisecond)
	return best
}

// drawn are the bars of a file that lie in the window.
func (w window) drawn(bars []bar) []bar {
	return slices.DeleteFunc(slices.Clone(bars), func(b bar) bool { return b.at < w.from || b.at > w.to })
}
