package view

import "github.com/pagein/pagein/blob"

// Reading ahead, in bytes of the blob: a miss where the last fetch ended doubles what is fetched beyond it, from minAhead to maxAhead.
const (
	minAhead = 256 << 10
	maxAhead = 4 << 20
)

// plan decides how far to fetch from frame i on, for a read that ends at the byte end: through frames that follow each other in their object as they do in
// the blob, and are neither there nor on their way. The caller holds the mutex.
func (d *device) plan(b loadedBlob, i int, end int64) (stop int) {
	if i == d.next && i > 0 {
		d.ahead = min(max(2*d.ahead, minAhead), maxAhead)
	} else {
		d.ahead = 0
	}
	last := b.m.Frame(i)
	limit := min(end+d.ahead, last.Off+min(maxAhead, d.v.o.Cache/2))
	for stop = i + 1; stop < b.m.Frames(); stop++ {
		f := b.m.Frame(stop)
		if f.Off >= limit || !follows(last, f) || d.flights[stop] != nil || d.v.cache.get(frameKey{d.index, stop}) != nil {
			break
		}
		last = f
	}
	d.next = stop
	return stop
}

// follows reports whether f lies directly behind last in the same object.
func follows(last, f blob.Frame) bool {
	return f.Source == last.Source && f.SrcOff == last.SrcOff+int64(last.SrcLen)
}
