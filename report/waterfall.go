package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// maxFiles bounds the rows of the waterfall; what remains is one row more.
	maxFiles = 80
	// maxSegments bounds the stretches that are drawn in a row.
	maxSegments = 160

	labelWidth = 330.0
	rowHeight  = 18.0
	axisHeight = 26.0
	labelRunes = 50
)

// waterfall is the picture of who was waited for when: a row for each file, in the order in which they were first wanted.
type waterfall struct {
	Width, Height, Left, Top float64
	Rows                     []fallRow
	Ticks                    []tick
	Phases                   []phaseLine
	From, To                 time.Duration
	Outside                  int // stretches that are not drawn, as they lie before or after that
}

// phaseLine is a moment in the picture.
type phaseLine struct {
	X    float64
	Name string
	At   time.Duration
}

type fallRow struct {
	Y, Text  float64 // of the row's top, and of its text
	Height   float64
	Label    string // as it fits
	Words    string // for who cannot see or points at it
	Segments []segment
}

type segment struct {
	X, W  float64
	Class string
}

func (r *Report) waterfall(w window) waterfall {
	files := slices.Clone(r.Files)
	for i := range files {
		files[i].bars = w.drawn(files[i].bars)
	}
	files = slices.DeleteFunc(files, func(f Used) bool { return len(f.bars) == 0 })
	var rest []Used
	if len(files) > maxFiles {
		if r.Measured { // those that cost most, in the order of time
			slices.SortStableFunc(files, func(a, b Used) int { return cmp.Compare(b.Waited, a.Waited) })
		}
		files, rest = files[:maxFiles], files[maxFiles:]
		slices.SortStableFunc(files, func(a, b Used) int { return cmp.Compare(a.First, b.First) })
	}
	f := waterfall{Width: width, Left: labelWidth, Top: axisHeight, From: w.from, To: w.to, Outside: w.outside}
	scale := timeScale{labelWidth, width - labelWidth - 20, w.from, w.to}
	for _, u := range files {
		f.row(scale, shorten(u.Name()), u.words(r.Measured), u.bars)
	}
	if len(rest) > 0 {
		var bars []bar
		var waited time.Duration
		for _, u := range rest {
			bars = append(bars, u.bars...)
			waited += u.Waited
		}
		slices.SortFunc(bars, func(a, b bar) int { return cmp.Compare(a.at, b.at) })
		name := fmt.Sprintf("(%s)", count(len(rest), "other file", "other files"))
		f.row(scale, name, name+" together, waited for "+seconds(waited), bars)
	}
	f.Height = axisHeight + rowHeight*float64(len(f.Rows)) + 4
	f.Ticks = scale.ticks()
	for _, p := range r.Phases {
		if (p.Name == mounted || p.Name == "ready") && w.from <= p.At && p.At <= w.to {
			f.Phases = append(f.Phases, phaseLine{round(scale.at(p.At)), p.Name, p.At})
		}
	}
	return f
}

func (f *waterfall) row(s timeScale, label, words string, bars []bar) {
	y := axisHeight + rowHeight*float64(len(f.Rows))
	f.Rows = append(f.Rows, fallRow{Y: y, Text: y + rowHeight - 5, Height: rowHeight, Label: label, Words: words, Segments: segments(s, bars)})
}

// words say what a row shows.
func (u Used) words(measured bool) string {
	size := bytes(u.Read)
	if u.Size > 0 {
		size += " of " + bytes(u.Size)
	}
	if !measured {
		return fmt.Sprintf("%s: first touched at %s, %s", u.Name(), offset(u.First), size)
	}
	text := fmt.Sprintf("%s: waited for %s in %s, at most %s, first at %s; read %s", u.Name(), seconds(u.Waited), count(u.Waits, "read", "reads"), seconds(u.Longest), offset(u.First), size)
	var sum bar
	for _, b := range u.bars {
		sum.cost = sum.cost.Plus(b.cost)
	}
	if name, took := largest(sum.cost); took > 0 {
		text += ", mostly for " + partWords(name)
	}
	if u.Failed > 0 {
		text += fmt.Sprintf("; %s failed", count(u.Failed, "read", "reads"))
	}
	return text
}

// segments are the stretches of bars, each part of a wait in its place, as many as can be told apart.
func segments(s timeScale, bars []bar) (all []segment) {
	for least := 1.5; ; least *= 2 {
		all = all[:0]
		end := -1.0
		for _, b := range bars {
			x := s.at(b.at)
			if x < end { // under one that is drawn
				if s.at(b.at+b.took) <= end {
					continue
				}
			}
			w := max(s.at(b.at+b.took)-x, least)
			end = x + w
			if w < 4 || b.took <= 0 {
				all = append(all, segment{round(x), round(w), classOf(b)})
				continue
			}
			for _, p := range parts(b.cost) {
				if part := w * float64(p.Took) / float64(b.took); part >= 0.5 {
					all = append(all, segment{round(x), round(part), p.Name})
					x += part
				}
			}
			if left := end - x; left >= 0.5 {
				class := "rest"
				if b.failed {
					class = "failed"
				}
				all = append(all, segment{round(x), round(left), class})
			}
		}
		if len(all) <= maxSegments || least > width {
			return all
		}
	}
}

func classOf(b bar) string {
	if b.failed {
		return "failed"
	}
	if b.took <= 0 {
		return "touch"
	}
	if name, took := largest(b.cost); took > 0 {
		return name
	}
	return "rest"
}

// shorten leaves the end of a path, which tells files apart, where it is too long.
func shorten(name string) string {
	runes := []rune(name)
	if len(runes) <= labelRunes {
		return name
	}
	return "…" + string(runes[len(runes)-labelRunes+1:])
}
