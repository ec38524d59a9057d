package view

import "testing"

func TestCacheKeepsWhatWasUsedLastWithinItsBounds(t *testing.T) {
	c := newCache(10)
	frame := func(n int) []byte { return make([]byte, n) }
	c.put(frameKey{0, 1}, frame(4))
	c.put(frameKey{0, 2}, frame(4))
	c.get(frameKey{0, 1})
	c.put(frameKey{0, 3}, frame(4)) // in place of 2
	c.put(frameKey{0, 3}, frame(4)) // is there
	for i, want := range map[int]bool{1: true, 2: false, 3: true} {
		if got := c.get(frameKey{0, i}) != nil; got != want {
			t.Errorf("frame %d is there: %v, want %v", i, got, want)
		}
	}
	if c.room != 2 || c.used.Len() != 2 || len(c.frames) != 2 {
		t.Errorf("room for %d, %d frames, %d keys", c.room, c.used.Len(), len(c.frames))
	}
	c.put(frameKey{1, 1}, frame(11)) // more than there is room for at all
	if c.room != 10 || c.used.Len() != 0 || len(c.frames) != 0 {
		t.Errorf("room for %d, %d frames, %d keys", c.room, c.used.Len(), len(c.frames))
	}
}
