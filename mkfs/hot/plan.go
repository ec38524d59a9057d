package hot

import (
	"cmp"
	"slices"

	"github.com/pagein/pagein/erofs"
)

const (
	// wholeFile is the size, in bytes, up to which a file is copied whole when any of it is hot: who reads a few of its pages mostly reads all of them.
	wholeFile = 16 << 10
	// maxGrain is the largest unit, in bytes, in which files are split into hot and cold.
	maxGrain = 128 << 10
	// Bytes that the metadata image takes on the wire for each chunk of a file, and the part that is left of a byte of data: roughly, as compressed.
	chunkCost = 3.0
	dataCost  = 0.4
)

// segment is a stretch of a file that is copied.
type segment struct {
	file     *erofs.Inode
	off, len int64  // bytes, whole blocks
	device   uint16 // where it is copied from
	from     uint64 // block there
	block    uint64 // of the hot blob
}

// Plan says what goes where in a hot blob.
type Plan struct {
	segments []segment // in the order of the hot blob
	blocks   uint64    // of the hot blob
	left     int64     // bytes of touches that found no room
}

// Size is the length of the hot blob in bytes. 0 means that there is nothing to copy.
func (p *Plan) Size() int64 { return int64(p.blocks) * erofs.BlockSize }

// Left is how many bytes of touches found no room in [MaxBytes].
func (p *Plan) Left() int64 { return p.left }

// Pad makes the hot blob a block longer, and so another one.
func (p *Plan) Pad() { p.blocks++ }

// NewPlan gives what was touched places in a hot blob, first touches first. No file is split finer than its share of the metadata image is worth.
func NewPlan(touches []Touch) *Plan {
	p := &Plan{}
	files := map[*erofs.Inode]*grains{}
	for _, t := range touches {
		g := files[t.File]
		if g == nil {
			g = &grains{}
			files[t.File] = g
		}
		g.touches = append(g.touches, t)
	}
	for _, t := range touches {
		g := files[t.File]
		if g.size == 0 {
			g.choose(t.File)
		}
		if p.Size() >= MaxBytes {
			p.left += t.Len
			continue
		}
		g.each(t, func(off, length int64) bool { return p.add(t.File, off, length) })
	}
	return p
}

// grains are the units in which a file is split, and which of them are hot.
type grains struct {
	size    int64 // bytes; 0 until it is chosen
	touches []Touch
	hot     map[int64]bool // by number
}

// choose finds the unit that costs least on the wire: chunks of the file in the metadata image, and data that nobody wants.
func (g *grains) choose(n *erofs.Inode) {
	g.hot = map[int64]bool{}
	length := roundUp(n.Size, erofs.BlockSize)
	if length <= wholeFile {
		g.size = wholeFile
		return
	}
	touches := slices.Clone(g.touches)
	slices.SortFunc(touches, func(a, b Touch) int { return cmp.Compare(a.Off, b.Off) })
	best := 0.0
	for size := int64(erofs.BlockSize); size <= maxGrain; size *= 2 {
		copied, done := int64(0), int64(0)
		for _, t := range touches {
			from, to := max(t.Off/size*size, done), min(roundUp(t.Off+t.Len, size), length)
			if to > from {
				copied += to - from
				done = to
			}
		}
		if cost := float64(copied)*dataCost + float64(roundUp(length, size)/size)*chunkCost; g.size == 0 || cost < best {
			g.size, best = size, cost
		}
	}
}

// each calls f for the stretches of the file that a touch makes hot and that are not yet, until it says that it is enough.
func (g *grains) each(t Touch, f func(off, length int64) (more bool)) {
	for i := t.Off / g.size; i*g.size < t.Off+t.Len; i++ {
		if g.hot[i] {
			continue
		}
		g.hot[i] = true
		if !f(i*g.size, g.size) {
			return
		}
	}
}

// add appends what a range of a file has of blocks, cut at the ends of its extents, and reports whether there is room for more.
func (p *Plan) add(n *erofs.Inode, off, length int64) bool {
	stop := off + length
	for i, _ := extentAt(n, off); i < len(n.Extents) && n.Extents[i].Off < stop; i++ {
		e := n.Extents[i]
		s := segment{file: n, off: max(off, e.Off), device: e.Device}
		s.len = min(stop, end(e)) - s.off
		s.from = e.Block + uint64(s.off-e.Off)/erofs.BlockSize
		p.append(s)
	}
	return p.Size() < MaxBytes
}

// append puts a segment behind the others, as a part of the last one if it goes on where that ends.
//
// No file may go on at that block of one device at whose number it ends on another: from block devices, Linux 6.1 and 6.12 would read on from the first (see package mkfs). Blocks stay empty
// where a copy would lie like that.
func (p *Plan) append(s segment) {
	n, blocks := s.file, uint64(s.len)/erofs.BlockSize
	if k := len(p.segments) - 1; k >= 0 && p.segments[k].continuedBy(&s) && !takenFor(n, s.off+s.len, p.blocks+blocks) {
		p.segments[k].len += s.len
		p.blocks += blocks
		return
	}
	for followsOn(n, s.off, p.blocks) || takenFor(n, s.off+s.len, p.blocks+blocks) {
		p.blocks++
	}
	s.block = p.blocks
	p.segments = append(p.segments, s)
	p.blocks += blocks
}

// continuedBy reports whether s lies behind t in the file and where both are copied from.
func (t *segment) continuedBy(s *segment) bool {
	return t.file == s.file && t.off+t.len == s.off && t.device == s.device && t.from+uint64(t.len)/erofs.BlockSize == s.from
}

// followsOn reports whether what lies before the byte off of a file ends, on its device, where the given block begins.
func followsOn(n *erofs.Inode, off int64, block uint64) bool {
	i, ok := extentAt(n, off-erofs.BlockSize)
	return off > 0 && ok && n.Extents[i].Block+uint64(off-n.Extents[i].Off)/erofs.BlockSize == block
}

// takenFor reports whether what lies at the byte off of a file begins, on its device, at the given block.
func takenFor(n *erofs.Inode, off int64, block uint64) bool {
	i, ok := extentAt(n, off)
	return ok && n.Extents[i].Block+uint64(off-n.Extents[i].Off)/erofs.BlockSize == block
}
