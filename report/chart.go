package report

import (
	"fmt"
	"strings"
	"time"
)

const (
	chartHeight = 340.0
	chartLeft   = 80.0
	chartRight  = 20.0
	chartTop    = 16.0
	chartBottom = 30.0
)

// chart is the picture of bytes over time.
type chart struct {
	Width, Height, Left, Right, Top, Bottom float64 // of the picture; and of the plot in it
	X, Y                                    []tick
	Lines                                   []line
	Rows                                    []chartRow
	HasFull, HasPrefetched                  bool
}

type line struct {
	Class, Points, Name, Words string
}

// chartRow is a line of the table behind it.
type chartRow struct {
	At                     time.Duration
	Lazy, Prefetched, Full int64
}

// chart returns nil if there is nothing to draw.
func (r *Report) chart(w window) *chart {
	c := r.Curve
	if len(c.Touched) > 0 {
		return touchedChart(c.Touched, r.Length)
	}
	if len(c.Lazy) == 0 {
		return nil
	}
	start := r.mounted() // of the computed lines, which may lie before the window
	end := max(w.to, c.Lazy[len(c.Lazy)-1].At)
	if c.Full > 0 {
		end = max(end, start+c.Full+c.Full/20)
	}
	end = max(w.to, min(end, w.from+3*(w.to-w.from))) // as much of what comes later as leaves room for what was
	total := reached(c.Lazy, end)
	top := total
	if c.Full > 0 {
		top = max(top, grown(end-start, c.Prefetched, c.PrefetchBytes), grown(end-start, c.Full, c.FullBytes))
	}
	p := newPlot(w.from, end, top)
	var lazy polyline
	lazy.add(p, w.from, reached(c.Lazy, w.from))
	done := w.from
	for _, at := range c.Lazy {
		if at.At > w.from && at.At <= end {
			lazy.add(p, at.At, at.Bytes)
			done = at.At
		}
	}
	lazy.add(p, end, total)
	p.Lines = append(p.Lines, line{"lazy", lazy.String(), "lazy", fmt.Sprintf("Lazy, as it was: %s until %s.", bytes(total), offset(done))})
	p.HasFull, p.HasPrefetched = c.Full > 0, c.Full > 0 && c.PrefetchBytes > 0
	if p.HasPrefetched {
		p.computed("prefetched", "what was read, prefetched", start, c.Prefetched, c.PrefetchBytes, end)
	}
	if p.HasFull {
		p.computed("full", "full pull", start, c.Full, c.FullBytes, end)
	}
	const rows = 12
	for k := range rows + 1 {
		at := w.from + (end-w.from)*time.Duration(k)/rows
		p.Rows = append(p.Rows, chartRow{
			At: at, Lazy: reached(c.Lazy, at), Prefetched: grown(at-start, c.Prefetched, c.PrefetchBytes), Full: grown(at-start, c.Full, c.FullBytes),
		})
	}
	return p.chart
}

// mounted is when the image was mounted, 0 if that is not known: an earlier daemon did it.
func (r *Report) mounted() time.Duration {
	for _, p := range r.Phases {
		if p.Name == mounted {
			return p.At
		}
	}
	return 0
}

// grown is how many bytes have come after a time if all come evenly until done.
func grown(after, done time.Duration, all int64) int64 {
	if after <= 0 || done <= 0 {
		return 0
	}
	return int64(float64(all) * min(float64(after)/float64(done), 1))
}

func touchedChart(points []Point, end time.Duration) *chart {
	total := points[len(points)-1].Bytes
	p := newPlot(0, end, total)
	var l polyline
	l.add(p, 0, 0)
	for _, at := range points {
		l.add(p, at.At, at.Bytes)
	}
	p.Lines = append(p.Lines, line{"lazy", l.String(), "touched", fmt.Sprintf("Touched: %s until %s.", bytes(total), offset(end))})
	const rows = 12
	for k := range rows {
		at := points[(len(points)-1)*k/(rows-1)]
		p.Rows = append(p.Rows, chartRow{At: at.At, Lazy: at.Bytes})
	}
	return p.chart
}

// plot is a chart with its scales.
type plot struct {
	*chart
	time timeScale
	most float64 // bytes at the top
}

func newPlot(from, end time.Duration, top int64) plot {
	p := plot{
		chart: &chart{Width: width, Height: chartHeight, Left: chartLeft, Right: width - chartRight, Top: chartTop, Bottom: chartHeight - chartBottom},
		time:  timeScale{chartLeft, width - chartLeft - chartRight, from, end},
	}
	step := max(niceBytes(float64(top)/5), 1)
	for n := 0.0; ; n += step {
		p.most = n
		if n >= float64(top) {
			break
		}
	}
	p.most = max(p.most, step)
	p.X = p.time.ticks()
	for n := 0.0; n <= p.most; n += step {
		p.Y = append(p.Y, tick{round(p.y(n)), bytes(int64(n))})
	}
	return p
}

func (p plot) y(n float64) float64 { return p.Bottom - (p.Bottom-p.Top)*n/p.most }

// computed adds a line that was not measured.
func (p plot) computed(class, name string, from, took time.Duration, total int64, end time.Duration) {
	var l polyline
	begin := max(from, p.time.begin)
	l.add(p, begin, grown(begin-from, took, total))
	words := fmt.Sprintf("%s, computed: %s until %s.", strings.ToUpper(name[:1])+name[1:], bytes(total), offset(from+took))
	if from+took <= end {
		l.add(p, max(from+took, begin), total)
		l.add(p, end, total)
	} else {
		l.add(p, end, grown(end-from, took, total))
	}
	p.Lines = append(p.Lines, line{class, l.String(), name, words})
}

// polyline are points as SVG has them. One that lies where the last one does is left out.
type polyline struct {
	strings.Builder
	x, y float64
}

func (l *polyline) add(p plot, at time.Duration, n int64) {
	x, y := round(p.time.at(at)), round(p.y(float64(n)))
	if l.Len() > 0 && x == l.x && y == l.y {
		return
	}
	if l.Len() > 0 {
		l.WriteByte(' ')
	}
	fmt.Fprintf(l, "%g,%g", x, y)
	l.x, l.y = x, y
}
