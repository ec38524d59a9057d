package cachefiles

import (
	"sync"
	"testing"

	"github.com/pagein/pagein/blob"
)

func TestPresenceCountsEachFrameOnce(t *testing.T) {
	const frames = 130
	p := newPresence(frames)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range frames {
				p.Set(i)
			}
		})
	}
	wg.Wait()
	if p.Count() != frames {
		t.Errorf("%d of %d frames are counted", p.Count(), frames)
	}
	p.Clear(64)
	p.Clear(64)
	if p.Count() != frames-1 || p.Has(64) || !p.Has(63) || !p.Has(65) {
		t.Errorf("after one frame is cleared: count %d", p.Count())
	}
}

func TestOnlyWholeFramesCountAsPresent(t *testing.T) {
	var frames []blob.Frame
	for i := range 4 {
		frames = append(frames, blob.Frame{Off: int64(i) * 8192, Len: 8192, SrcOff: int64(i) * 8192, SrcLen: 8192})
	}
	m, err := blob.NewMap([]int64{4 * 8192}, frames)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off, n int64
		want   [4]bool
	}{
		{0, 0, [4]bool{}},
		{0, 4 * 8192, [4]bool{true, true, true, true}},
		{4096, 2 * 8192, [4]bool{false, true}},
		{0, 8191, [4]bool{}},
		{8192, 8192, [4]bool{false, true}},
		{3 * 8192, 8192, [4]bool{3: true}},
	} {
		p := newPresence(4)
		p.setWithin(m, c.off, c.n)
		for i, want := range c.want {
			if p.Has(i) != want {
				t.Errorf("%d bytes at %d: frame %d present is %v", c.n, c.off, i, p.Has(i))
			}
		}
	}
}
