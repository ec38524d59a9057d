package mkfs

import (
	"fmt"
	"io"

	"github.com/pagein/pagein/erofs"
)

// zeroRun is the length of the zeros that stand for holes, in bytes. They are stored once for a tree and compress to almost nothing; the longer they are, the
// fewer index entries a long hole takes, and the more a node may come to store of them.
const zeroRun = 4 << 20

// maxFilled bounds the extents of zeros in a tree, 2^20 for 4 TiB of holes: each takes memory and an index entry, and a tar member of a few hundred bytes may
// claim a hole of any length.
const maxFilled = 1 << 20

// zeros is where a tree keeps its zeroRun.
type zeros struct {
	sink uint16
	ref  Ref
	ok   bool // they are stored
	left int  // extents that may still be made, once they are stored
}

// fill returns extents of zeros for the hole [from, to) of a file, both multiples of a block. The zeros go to s if the tree has none yet.
func (z *zeros) fill(from, to int64, sink uint16, s Sink) ([]erofs.Extent, error) {
	if !z.ok {
		ref, err := s.Append(zeroReader{}, zeroRun)
		if err != nil {
			return nil, err
		}
		*z = zeros{sink: sink, ref: ref, ok: true, left: maxFilled}
	}
	if need := (to-from)/zeroRun + 2; need > int64(z.left) {
		return nil, fmt.Errorf("fill a hole of %d bytes: the holes of one image, data behind them, may have %d bytes together", to-from, int64(maxFilled)*zeroRun)
	}
	var extents []erofs.Extent
	for from < to {
		// Cuts at multiples of zeroRun in the file let its chunks be as large as its other extents allow.
		next := min(from-from%zeroRun+zeroRun, to)
		extents = append(extents, erofs.Extent{Off: from, Len: next - from, Device: z.sink, Block: uint64(z.ref)})
		from = next
	}
	z.left -= len(extents)
	return extents, nil
}

// zeroReader yields zeros without end.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

var _ io.Reader = zeroReader{}
