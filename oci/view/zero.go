package view

import (
	"crypto/sha256"
	"sync"

	"github.com/pagein/pagein/erofs"
)

// Zero returns how many bytes from off of an extent of the tree are of one kind, and whether they are known to be zeros without being read: the digests of their frames
// say so. Artifacts keep the holes of sparse files as references to zeros.
func (v *View) Zero(e erofs.Extent, off int64) (n int64, zero bool) {
	n = e.Off + e.Len - off
	if e.Device == 0 || int(e.Device) > len(v.devices) {
		return n, false
	}
	b, err := v.devices[e.Device-1].load()
	if err != nil {
		return n, false // reading will say so
	}
	pos := int64(e.Block)*erofs.BlockSize + off - e.Off
	i := b.m.Find(pos)
	if i < 0 {
		return n, false
	}
	f := b.m.Frame(i)
	return min(n, f.Off+int64(f.Len)-pos), f.SrcLen <= f.Len/16 && f.Digest == v.zeros.digest(f.Len)
}

// zeros knows the digests of zeros, by how many there are.
type zeros struct {
	mu    sync.Mutex
	known map[int][32]byte
}

func (z *zeros) digest(n int) [32]byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	sum, ok := z.known[n]
	if !ok {
		h := sha256.New()
		var block [erofs.BlockSize]byte
		for range n / erofs.BlockSize {
			h.Write(block[:])
		}
		sum = [32]byte(h.Sum(nil))
		if z.known == nil {
			z.known = map[int][32]byte{}
		}
		z.known[n] = sum
	}
	return sum
}
