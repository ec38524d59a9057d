package mkfs

import (
	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs/internal/units"
)

// Mounted from block devices, Linux (seen in 6.1 and 6.12, iomap_readpage_iter in fs/iomap/buffered-io.c) compares only sector numbers when it joins what it reads to
// the request before: where data of a file ends at a block of one device and goes on at the same block of another, it would read on from the first. So no file may lie
// like that. A unit that would have to follow such data gets a second place, in the layer's own blob.

// unitKey names a unit of either kind.
type unitKey struct {
	id    units.ID
	small bool
}

// misread reports whether kernels would take what lies at a place for what follows an extent on its own device.
func misread(e erofs.Extent, at place) bool {
	return e.Device != at.device && e.Block+uint64(e.Len+erofs.BlockSize-1)/erofs.BlockSize == uint64(at.block)
}

// extents tells a file where its data lies, and counts it.
func (pl *planner) extents(p *plan, l *Layer, f *packFile) error {
	var unique, borrowed, shared int64
	var all []erofs.Extent
	at, end := f.first, int64(0)
	for pc := range pl.cut.pieces(f.shape()) {
		all = pl.zeros.fill(all, end, pc.off)
		end = pc.off + pc.len
		where := pl.pieces
		if pc.small {
			where = pl.small
		}
		w, fresh := where[l.ids[at]], l.fresh[at]
		if n := len(all); n > 0 && misread(all[n-1], w) {
			var err error
			if w, err = pl.secondPlace(p, unitKey{l.ids[at], pc.small}, w, &fresh); err != nil {
				return err
			}
		}
		all = appendExtent(all, erofs.Extent{Off: pc.off, Len: pc.len, Device: w.device, Block: uint64(w.block)})
		switch {
		case fresh:
			unique += pc.len
			l.fresh[at] = false
		case pl.devices[w.device-1].Blob == nil:
			borrowed += pc.len
		default:
			shared += pc.len
		}
		at++
	}
	f.ino.Extents = all
	l.figures.Unique += unique
	l.figures.Borrowed += borrowed
	if unique == 0 && borrowed == 0 {
		l.figures.SharedFiles += shared
	} else {
		l.figures.SharedPieces += shared
	}
	return nil
}

// secondPlace returns another place of a unit than its first, and stores it there if it has none; then fresh becomes true. The two have different block numbers, so
// whoever cannot have the first behind something can have the second, and what lies behind the first can go on behind the second. All frames must be sealed.
func (pl *planner) secondPlace(p *plan, unit unitKey, first place, fresh *bool) (place, error) {
	if at, ok := pl.second[unit]; ok {
		return at, nil
	}
	get := pl.store.Piece
	if unit.small {
		get = pl.store.Small
	}
	u, err := get(unit.id)
	if err == nil {
		err = pl.own(p)
	}
	if err == nil && p.blocks == int64(first.block) {
		err = pl.pad(p)
	}
	if err != nil {
		return place{}, err
	}
	at := place{p.device, uint32(p.blocks)}
	if unit.small {
		pl.frame(p, plannedFrame{first: uint32(len(p.members)), n: 1}, int64(u.Len))
		p.members = append(p.members, unit.id)
	} else {
		pl.frame(p, plannedFrame{first: uint32(unit.id)}, int64(u.Len))
	}
	pl.second[unit], *fresh = at, true
	return at, nil
}

// pad leaves a block of the blob free.
func (pl *planner) pad(p *plan) error {
	id, err := pl.zeroPiece(blob.BlockSize)
	if err == nil {
		pl.frame(p, plannedFrame{first: uint32(id)}, blob.BlockSize)
	}
	return err
}

// appendExtent appends an extent, or lengthens the last one if both lie behind each other in the file and on the device.
func appendExtent(all []erofs.Extent, e erofs.Extent) []erofs.Extent {
	if n := len(all); n > 0 {
		last := &all[n-1]
		if last.Off+last.Len == e.Off && last.Device == e.Device && last.Block+uint64(last.Len/erofs.BlockSize) == e.Block {
			last.Len += e.Len
			return all
		}
	}
	if all == nil {
		return []erofs.Extent{e} // exactly one is what nearly all files have
	}
	return append(all, e)
}
