package ondemand

import (
	"math/bits"
	"sync"
	"unsafe"
)

const (
	pageSize   = 4096
	minBuffer  = 12 // 4 KiB, as a power of two
	maxBuffers = 13 // classes 4 KiB … 16 MiB, the largest frame that a blob map may have
)

// buffers hands out page-aligned memory, as O_DIRECT writes want it. Buffers of each power of two are used again.
type buffers struct {
	class [maxBuffers]sync.Pool
}

func sizeClass(n int) int {
	return max(bits.Len64(uint64(n-1)), minBuffer) - minBuffer
}

// get returns n bytes, 1..16 MiB, at a page-aligned address.
func (p *buffers) get(n int) []byte {
	c := sizeClass(n)
	if b, ok := p.class[c].Get().(*byte); ok {
		return unsafe.Slice(b, 1<<(c+minBuffer))[:n]
	}
	raw := make([]byte, 1<<(c+minBuffer)+pageSize)
	skip := -uintptr(unsafe.Pointer(&raw[0])) % pageSize
	return raw[skip : skip+1<<(c+minBuffer)][:n]
}

// put takes back what get returned.
func (p *buffers) put(b []byte) {
	p.class[sizeClass(len(b))].Put(unsafe.SliceData(b))
}
