package cachefiles

import (
	"sync/atomic"

	"github.com/pagein/pagein/blob"
)

// presence is a copy in memory of what the kernel's file has, one bit for each frame. It implements [ondemand.Presence].
type presence struct {
	words []atomic.Uint64
	count atomic.Int64
}

func newPresence(frames int) *presence {
	return &presence{words: make([]atomic.Uint64, (frames+63)/64)}
}

func (p *presence) Has(i int) bool { return p.words[i/64].Load()>>(i%64)&1 == 1 }

func (p *presence) Set(i int) {
	bit := uint64(1) << (i % 64)
	if p.words[i/64].Or(bit)&bit == 0 {
		p.count.Add(1)
	}
}

func (p *presence) Clear(i int) {
	bit := uint64(1) << (i % 64)
	if p.words[i/64].And(^bit)&bit != 0 {
		p.count.Add(-1)
	}
}

func (p *presence) Count() int { return int(p.count.Load()) }

// setWithin sets the frames that lie in a range completely.
func (p *presence) setWithin(m *blob.Map, off, n int64) {
	if n <= 0 {
		return
	}
	for i := m.Find(off); i < m.Frames(); i++ {
		f := m.Frame(i)
		if f.Off+int64(f.Len) > off+n {
			return
		}
		if f.Off >= off {
			p.Set(i)
		}
	}
}
