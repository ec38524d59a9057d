package report

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	mapHeight = 560.0
	// descend is the area from which on what is in a directory is shown, in square units; least is the smallest that is shown by itself.
	descend = 4000.0
	least   = 90.0
	// maxLeaves bounds the rectangles.
	maxLeaves = 700
	header    = 15.0
	charWidth = 6.2
)

// treemap is the picture of the image: areas are bytes, what is filled of each was read.
type treemap struct {
	Width, Height float64
	Leaves        []leaf
	Frames        []frame
}

// leaf is a file, or a directory that is not looked into.
type leaf struct {
	X, Y, W, H   float64
	FillY, FillH float64 // of the part that was read
	MoreY, MoreH float64 // above it, of the part that was prefetched beside that
	Label, Words string
	Name         string // all of what Label says
}

// frame is a directory that is looked into.
type frame struct {
	X, Y, W, H  float64
	Label, Name string
}

type rect struct{ x, y, w, h float64 }

func (r *Report) treemap(root *dir) *treemap {
	t := &treemap{Width: width, Height: mapHeight}
	t.place(root, "/", rect{0, 0, width, mapHeight}, 0)
	return t
}

// place draws a directory or a file into a rectangle. Above is the directory that is drawn around it.
func (t *treemap) place(d *dir, above string, at rect, depth int) {
	if d.leaf || len(d.below) == 0 || at.w*at.h < descend || at.w < 30 || at.h < 30 || len(t.Leaves) > maxLeaves || depth > 12 {
		t.leaf(d.path, d, at)
		return
	}
	if len(d.below) == 1 && !d.below[0].leaf { // a directory of nothing but another
		t.place(d.below[0], above, at, depth)
		return
	}
	inner := at
	if depth > 0 {
		f := frame{X: round(at.x), Y: round(at.y), W: round(at.w), H: round(at.h), Name: Printable(below(d.path, above) + "/")}
		f.Label = fit(below(d.path, above)+"/", at.w)
		if strings.HasSuffix(f.Label, "…") { // its end tells more
			f.Label = fit(path.Base(d.path)+"/", at.w)
		}
		t.Frames = append(t.Frames, f)
		inner = rect{at.x + 2, at.y + header, at.w - 4, at.h - header - 2}
	}
	area := inner.w * inner.h / float64(max(d.size, 1))
	shown, rest := d.below, dir{leaf: true}
	for i, b := range d.below {
		if float64(b.size)*area < least {
			shown = d.below[:i]
			for _, small := range d.below[i:] {
				rest.size += small.size
				rest.read += small.read
				rest.brought += small.brought
				rest.files += small.files
			}
			break
		}
	}
	if rest.size > 0 {
		rest.path = path.Join(d.path, "…")
		shown = append(shown[:len(shown):len(shown)], &rest)
		slices.SortStableFunc(shown, func(a, b *dir) int { return cmp.Compare(b.size, a.size) })
	}
	squarify(shown, inner, func(b *dir, at rect) {
		if b == &rest {
			t.leaf(fmt.Sprintf("%s: %s", d.path, count(rest.files, "small file", "small files")), b, at)
			return
		}
		above := d.path
		if depth == 0 { // which is drawn without a frame, and so without its name
			above = "/"
		}
		t.place(b, above, at, depth+1)
	})
}

// below is the path of what lies below a directory, seen from there; from the top it is all of it.
func below(p, dir string) string {
	if dir == "/" {
		return p
	}
	return strings.TrimPrefix(p, dir+"/")
}

func (t *treemap) leaf(name string, d *dir, at rect) {
	l := leaf{X: round(at.x + 0.5), Y: round(at.y + 0.5), W: round(max(at.w-1, 0.5)), H: round(max(at.h-1, 0.5))}
	if d.size > 0 {
		l.FillH = round(l.H * float64(d.read) / float64(d.size))
		if d.read > 0 {
			l.FillH = max(l.FillH, 1)
		}
		l.MoreH = min(round(l.H*float64(d.brought)/float64(d.size)), round(l.H-l.FillH))
	}
	l.FillY = round(l.Y + l.H - l.FillH)
	l.MoreY = round(l.FillY - l.MoreH)
	if at.h >= 14 {
		l.Label = fit(path.Base(d.path), at.w)
	}
	l.Name = Printable(path.Base(d.path))
	l.Words = fmt.Sprintf("%s: %s, %s read", Printable(name), bytes(d.size), percent(d.read, d.size))
	if d.brought > 0 {
		l.Words += fmt.Sprintf(", %s prefetched", percent(d.brought, d.size))
	}
	if d.files > 1 {
		l.Words += fmt.Sprintf(", %s", count(d.files, "file", "files"))
	}
	t.Leaves = append(t.Leaves, l)
}

// fit is as much of a name as fits into a width, "" if that would say nothing.
func fit(name string, w float64) string {
	runes := []rune(Printable(name))
	room := int((w - 6) / charWidth)
	switch {
	case len(runes) <= room:
		return string(runes)
	case room < 4:
		return ""
	}
	return string(runes[:room-1]) + "…"
}

// squarify divides a rectangle among list, which is sorted by size, so that its parts are as square as can be: rows are filled along the shorter side for as long as
// that makes them squarer (Bruls, Huizing and van Wijk, 2000).
func squarify(list []*dir, at rect, draw func(*dir, rect)) {
	total := int64(0)
	for _, d := range list {
		total += d.size
	}
	for len(list) > 0 && total > 0 && at.w > 0 && at.h > 0 {
		side := min(at.w, at.h)
		perByte := at.w * at.h / float64(total)
		n, sum := 0, int64(0)
		for worst := 0.0; n < len(list); n++ {
			ratio := worstRatio(float64(list[0].size)*perByte, float64(list[n].size)*perByte, float64(sum+list[n].size)*perByte, side)
			if n > 0 && ratio > worst {
				break
			}
			worst = ratio
			sum += list[n].size
		}
		depth := float64(sum) * perByte / side
		along := 0.0
		for _, d := range list[:n] {
			length := float64(d.size) * perByte / depth
			if at.w >= at.h {
				draw(d, rect{at.x, at.y + along, depth, length})
			} else {
				draw(d, rect{at.x + along, at.y, length, depth})
			}
			along += length
		}
		if at.w >= at.h {
			at.x, at.w = at.x+depth, at.w-depth
		} else {
			at.y, at.h = at.y+depth, at.h-depth
		}
		list, total = list[n:], total-sum
	}
}

// worstRatio is the least square one of the parts of a row between its largest and its smallest, of areas, in a row of the area sum along a side.
func worstRatio(largest, smallest, sum, side float64) float64 {
	s := sum * sum
	if smallest <= 0 || s <= 0 {
		return 0
	}
	return max(side*side*largest/s, s/(side*side*smallest))
}
