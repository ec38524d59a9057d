package mkfs

import (
	"fmt"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/mkfs/internal/units"
)

// place is where a unit lies. Device 0 means that it has no place yet.
type place struct {
	device uint16 // of the image, from 1
	block  uint32
}

// planner gives units their places, layer by layer. What it decides follows from the layers so far and the options alone, so images with the same
// lowest layers have the same lowest blobs.
type planner struct {
	store    *units.Store
	cut      cutter
	room     int64 // bytes of a frame of small units
	known    Known
	small    []place // by ID
	pieces   []place // by ID
	second   map[unitKey]place
	zeros    zeros
	devices  []Device
	borrowed map[int]uint16 // devices of the blobs that known has
}

// plan is what the blob of one layer is to hold.
type plan struct {
	device  uint16 // 0 while it is empty
	blocks  int64
	frames  []plannedFrame // in the order of the blob
	members []units.ID     // of all frames of small units
	open    int            // number of members that are in frames; those behind wait in one that is not full
	waiting int64          // bytes that wait
}

// plannedFrame is a frame of small units, members [first, first+n) of the plan, or, with n = 0, the piece first.
type plannedFrame struct{ first, n uint32 }

// layer gives all units of a layer places, in the given order of files, and files their extents.
func (pl *planner) layer(l *Layer, order []int32) (*plan, error) {
	p := &plan{}
	l.fresh = make([]bool, len(l.ids))
	for _, i := range order {
		f := &l.files[i]
		if err := pl.file(p, l, f); err != nil {
			return nil, fmt.Errorf("%q: %w", f.name, err)
		}
	}
	pl.seal(p)
	for _, i := range order {
		f := &l.files[i]
		if err := pl.extents(p, l, f); err != nil {
			return nil, fmt.Errorf("%q: %w", f.name, err)
		}
	}
	if p.blocks > blob.MaxSize/blob.BlockSize {
		return nil, fmt.Errorf("the data of one layer takes %d blocks: a blob has room for %d", p.blocks, int64(blob.MaxSize)/blob.BlockSize)
	}
	return p, nil
}

// file gives the units of a file places.
func (pl *planner) file(p *plan, l *Layer, f *packFile) error {
	shape := f.shape()
	if err := pl.needZeros(p, shape); err != nil {
		return err
	}
	at := f.first
	for pc := range pl.cut.pieces(shape) {
		if err := pl.unit(p, l, at, pc.small); err != nil {
			return err
		}
		at++
	}
	return nil
}

// unit gives a unit of a layer, of which number is the piece, a place, unless it has one.
func (pl *planner) unit(p *plan, l *Layer, number uint32, small bool) error {
	id, places, get := l.ids[number], &pl.pieces, pl.store.Piece
	if small {
		places, get = &pl.small, pl.store.Small
	}
	if need := int(id) + 1; need > len(*places) {
		*places = append(*places, make([]place, need-len(*places))...)
	}
	at := &(*places)[id]
	if at.device != 0 {
		return nil
	}
	unit, err := get(id)
	if err != nil {
		return err
	}
	if at.device, at.block, err = pl.borrow(unit); err != nil || at.device != 0 {
		return err
	}
	if err := pl.own(p); err != nil {
		return err
	}
	l.fresh[number] = true
	at.device = p.device
	if !small {
		at.block = uint32(p.blocks)
		pl.frame(p, plannedFrame{first: uint32(id)}, int64(unit.Len))
		return nil
	}
	if p.waiting+int64(unit.Len) > pl.room {
		pl.seal(p)
	}
	at.block = uint32(p.waiting / blob.BlockSize) // of the frame, until it is sealed
	p.members = append(p.members, id)
	p.waiting += int64(unit.Len)
	return nil
}

// borrow finds a unit in the blobs of earlier conversions.
func (pl *planner) borrow(u units.Unit) (device uint16, block uint32, err error) {
	if pl.known == nil {
		return 0, 0, nil
	}
	number, at, ok := pl.known.Find(u.Digest, int64(u.Len))
	if !ok {
		return 0, 0, nil
	}
	device = pl.borrowed[number]
	if device == 0 {
		if device, err = pl.device(Device{Known: number}); err != nil {
			return 0, 0, err
		}
		pl.borrowed[number] = device
	}
	return device, uint32(at), nil
}

// own makes sure that the plan's blob is a device.
func (pl *planner) own(p *plan) (err error) {
	if p.device == 0 {
		p.device, err = pl.device(Device{Blob: &Blob{}})
	}
	return err
}

func (pl *planner) device(d Device) (uint16, error) {
	if len(pl.devices) == maxDevices {
		return 0, fmt.Errorf("the image would need more than %d blobs", maxDevices)
	}
	pl.devices = append(pl.devices, d)
	return uint16(len(pl.devices)), nil
}

// frame appends a frame to the blob.
func (pl *planner) frame(p *plan, f plannedFrame, size int64) {
	p.frames = append(p.frames, f)
	p.blocks += size / blob.BlockSize
}

// seal gives the frame of small units that is open its place.
func (pl *planner) seal(p *plan) {
	if p.waiting == 0 {
		return
	}
	members := p.members[p.open:]
	for _, id := range members {
		pl.small[id].block += uint32(p.blocks)
	}
	pl.frame(p, plannedFrame{first: uint32(p.open), n: uint32(len(members))}, p.waiting)
	p.open, p.waiting = len(p.members), 0
}
