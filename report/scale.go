package report

import (
	"fmt"
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
	begin, end   time.Duration
}

func (s timeScale) at(d time.Duration) float64 {
	return s.from + s.length*float64(d-s.begin)/float64(max(s.end-s.begin, 1))
}

// ticks are some six lines at round times.
func (s timeScale) ticks() (all []tick) {
	step := niceTime((s.end - s.begin) / 6)
	if step <= 0 {
		return nil
	}
	for d := (s.begin + step - 1).Truncate(step); d <= s.end; d += step {
		text := seconds(d)
		switch {
		case d == 0:
			text = "0"
		case d < time.Minute:
		case s.end < 2*time.Minute:
			text = fmt.Sprintf("%.4g s", d.Seconds())
		case d%time.Hour == 0:
			text = fmt.Sprintf("%d h", d/time.Hour)
		case d%time.Minute == 0 && s.end < 2*time.Hour:
			text = fmt.Sprintf("%d min", d/time.Minute)
		}
		all = append(all, tick{round(s.at(d)), text})
	}
	return all
}

// niceTime is the least time that is not less than d and that people count in.
func niceTime(d time.Duration) time.Duration {
	if d <= 20*time.Second {
		return time.Duration(nice(float64(d)))
	}
	for _, step := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute} {
		if step >= d {
			return step
		}
	}
	return time.Duration(nice(d.Hours()) * float64(time.Hour))
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
	if n := nice(v / unit); n < 1000 {
		return n * unit
	}
	return 1024 * unit
}
