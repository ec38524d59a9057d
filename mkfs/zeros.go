package mkfs

import (
	"fmt"
	"io"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs/internal/units"
)

// Kernels that read EROFS over fscache (seen in 6.1 and 6.12, fs/erofs/fscache.c) return zeros for all of a read that begins in a hole, data behind the hole
// included. So in images that may meet them, holes before data are extents of zeros that are stored once.

// zeroRun is the length of the zeros that stand for holes, in bytes. They compress to almost nothing; the longer they are, the fewer index entries a long hole
// takes, and the more a node may come to store of them.
const zeroRun = 4 << 20

// maxFilled bounds the extents of zeros in a tree, 2^20 for 4 TiB of holes: each takes memory and an index entry, and a tar member of a few hundred bytes may
// claim a hole of any length.
const maxFilled = 1 << 20

// zeros is where an image keeps the zeros for its holes.
type zeros struct {
	at   place
	left int // extents that may still be made, once they are stored
}

// needZeros makes sure that the zeros for a file's holes are stored, if it has holes before data.
func (pl *planner) needZeros(p *plan, l layout) error {
	end, need := int64(0), int64(0)
	for _, s := range l.spans {
		if s.off > end {
			need += (s.off-end)/zeroRun + 2
		}
		end = s.off + s.len
	}
	if need == 0 {
		return nil
	}
	if pl.zeros.at.device == 0 {
		if err := pl.storeZeros(p); err != nil {
			return fmt.Errorf("store zeros for holes: %w", err)
		}
	}
	if need > int64(pl.zeros.left) {
		return fmt.Errorf("fill its holes: the holes of one image, data behind them, may have %d bytes together", int64(maxFilled)*zeroRun)
	}
	pl.zeros.left -= int(need)
	return nil
}

func (pl *planner) storeZeros(p *plan) error {
	size := min(pl.cut.frame, zeroRun)
	id, err := pl.zeroPiece(size)
	if err == nil {
		err = pl.own(p)
	}
	if err != nil {
		return err
	}
	pl.zeros = zeros{at: place{p.device, uint32(p.blocks)}, left: maxFilled}
	for n := int64(0); n < zeroRun+erofs.BlockSize; n += size { // fill may begin at the second block
		pl.frame(p, plannedFrame{first: uint32(id)}, size)
	}
	return nil
}

// zeroPiece keeps a piece of zeros.
func (pl *planner) zeroPiece(size int64) (units.ID, error) {
	in := pl.store.Intake()
	err := in.Piece(zeroReader{}, int(size))
	ids, closeErr := in.Close()
	if err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, err
	}
	return ids[0], nil
}

// fill appends extents of zeros for the hole [from, to) of a file, both multiples of a block.
func (z *zeros) fill(all []erofs.Extent, from, to int64) []erofs.Extent {
	for from < to {
		// Cuts at multiples of zeroRun in the file let its chunks be as large as its other extents allow.
		next := min(from-from%zeroRun+zeroRun, to)
		at := z.at
		if n := len(all); n > 0 && misread(all[n-1], at) {
			at.block++
		}
		all = append(all, erofs.Extent{Off: from, Len: next - from, Device: at.device, Block: uint64(at.block)})
		from = next
	}
	return all
}

// zeroReader yields zeros without end.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

var _ io.Reader = zeroReader{}
