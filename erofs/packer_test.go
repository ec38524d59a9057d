package erofs

import (
	"math/rand/v2"
	"testing"
)

func TestPackedInodesNeverOverlapOrCrossBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	p := packer{end: 1152}
	used := make([]bool, 1<<20) // by inodeUnit
	sum := int64(0)
	for range 5000 {
		size := int64(extendedSize + r.IntN([]int{1, 200, 4033, 20000}[r.IntN(4)]))
		end := p.end
		pos := p.place(size)
		last := pos + min(size, BlockSize) - 1
		if size > BlockSize {
			last = pos + extendedSize - 1
		}
		if pos%inodeUnit != 0 || pos/BlockSize != last/BlockSize {
			t.Fatalf("%d bytes at %d cross a block", size, pos)
		}
		if pos/BlockSize < end/BlockSize-openBlocks {
			t.Fatalf("%d bytes at %d, when the end was at %d: the block is written already", size, pos, end)
		}
		for u := pos / inodeUnit; u <= (pos+size-1)/inodeUnit; u++ {
			if used[u] {
				t.Fatalf("%d bytes at %d overlap others", size, pos)
			}
			used[u] = true
		}
		sum += alignUp(size, inodeUnit)
	}
	if got := p.end - 1152 - sum; got != p.wasted() {
		t.Errorf("%d bytes are unused, wasted says %d", got, p.wasted())
	}
}
