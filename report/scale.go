package report

import (
	"math"
	"time"
)

// width of all pictures, in the units of their coordinates.
const width = 1000

// round leaves one digit behind the point: more cannot be seen, and makes pages larger.
func round(v float64) float64 { return math.Round(v*10) / 10 }

// tick is a line of an axis and what stands beside it.
type tick struct {
	At   float64
	Text string
}

// timeScale maps times to coordinates.
type timeScale struct {
	from, length float64 // coordinates
	end          time.Duration
}

func (s timeScale) at(d time.Duration) float64 {
	return s.from + s.length*float64(d)/float64(max(s.end, 1))
}

// ticks are some six lines at round times.
func (s timeScale) ticks() (all []tick) {
	step := time.Duration(nice(float64(s.end) / 6))
	if step <= 0 {
		return nil
	}
	for d := time.Duration(0); d <= s.end; d += step {
		text := seconds(d)
		if d == 0 {
			text = "0"
		}
		all = append(all, tick{round(s.at(d)), text})
	}
	return all
}

// nice is the least of 1, 2, 5, 10 and so on that is not less than v.
func nice(v float64) float64 {
	if v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= v {
			return m * unit
		}
	}
	return 10 * unit
}

// niceBytes is the least round number of bytes, in units of 1024, that is not less than v.
func niceBytes(v float64) float64 {
	unit := 1.0
	for v/unit >= 1000 {
		unit *= 1024
	}
	return nice(v/unit) * unit
}
