package mkfs

import (
	"io"

	"github.com/pagein/pagein/erofs"
)

// zeroRun is the length of the zeros that stand for holes, in bytes. They are stored once for a tree and compress to almost nothing; the longer they are, the
// fewer index entries a long hole takes, and the more a node may come to store of them.
const zeroRun = 4 << 20

// zeros is where a tree keeps its zeroRun.
type zeros struct {
	sink uint16
	ref  Ref
	ok   bool // they are stored
}

// fill returns extents of zeros for the hole [from, to) of a file, both multiples of a block. The zeros go to s if the tree has none yet.
func (z *zeros) fill(from, to int64, sink uint16, s Sink) ([]erofs.Extent, error) {
	if !z.ok {
		ref, err := s.Append(zeroReader{}, zeroRun)
		if err != nil {
			return nil, err
		}
		*z = zeros{sink: sink, ref: ref, ok: true}
	}
	var extents []erofs.Extent
	for from < to {
		// Cuts at multiples of zeroRun in the file let its chunks be as large as its other extents allow.
		next := min(from-from%zeroRun+zeroRun, to)
		extents = append(extents, erofs.Extent{Off: from, Len: next - from, Device: z.sink, Block: uint64(z.ref)})
		from = next
	}
	return extents, nil
}

// zeroReader yields zeros without end.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

var _ io.Reader = zeroReader{}
