package mkfs

import (
	"iter"

	"github.com/pagein/pagein/blob"
)

// cutter cuts file data into what is stored, shared and found as a whole.
type cutter struct {
	small int64 // bytes up to which a run of data is a small unit
	frame int64 // pieces of longer ones end at multiples of this in the file
	slack int64 // shorter pieces than this at the ends of a run are part of their neighbour
}

func newCutter(o blob.WriterOptions) cutter {
	c := cutter{small: int64(o.SmallFile), frame: int64(o.LargeFrame), slack: int64(o.LargeFrame) / 4}
	if c.longest() > blob.MaxFrame {
		c.slack = 0
	}
	return c
}

// longest is the length in bytes of the longest piece that is no small unit.
func (c cutter) longest() int64 { return c.frame + 2*c.slack }

// piece is a part of a file that is a unit.
type piece struct {
	off, len int64
	small    bool
}

// pieces cuts a file. That the cuts are at the same places in all files makes equal parts of different files equal units.
func (c cutter) pieces(l layout) iter.Seq[piece] {
	return func(yield func(piece) bool) {
		for _, s := range l.spans {
			if s.len <= c.small {
				if !yield(piece{s.off, s.len, true}) {
					return
				}
				continue
			}
			for off, end := s.off, s.off+s.len; off < end; {
				next := off - off%c.frame + c.frame
				if next-off < c.slack {
					next += c.frame
				}
				if end-next < c.slack {
					next = end
				}
				if !yield(piece{off, next - off, false}) {
					return
				}
				off = next
			}
		}
	}
}
