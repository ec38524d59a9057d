package profile

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"time"
)

// joinWithin is how far apart in time two touches that continue each other may be to make one entry.
const joinWithin = 5 * time.Millisecond

// Coalesce makes one entry of those that continue each other in a file at about the same time and are alike otherwise. Recordings name pages one by one.
func (p *Profile) Coalesce() {
	last := make(map[string]int) // entry of each file
	until := make(map[string]time.Duration)
	kept := p.Entries[:0]
	for _, e := range p.Entries {
		if i, ok := last[e.Path]; ok && kept[i].continuedBy(&e) && e.Time-until[e.Path] <= joinWithin {
			kept[i].Len += e.Len
		} else {
			last[e.Path] = len(kept)
			kept = append(kept, e)
		}
		until[e.Path] = e.Time
	}
	p.Entries = kept
}

func (e *Entry) continuedBy(next *Entry) bool {
	return e.end() == next.Off && next.Len <= maxBytes-next.Off && e.Kind == next.Kind && runs(e.Runs) == runs(next.Runs) && e.Digest == next.Digest
}

// Disjoint returns the entries without what was touched before: no two of them overlap. Its cost depends on the number of entries and not on their lengths.
func (p *Profile) Disjoint() []Entry {
	byFile := make(map[string][]int)
	var paths []string
	for i := range p.Entries {
		path := p.Entries[i].Path
		if byFile[path] == nil {
			paths = append(paths, path)
		}
		byFile[path] = append(byFile[path], i)
	}
	var found []piece
	for _, path := range paths {
		found = append(found, p.firsts(byFile[path])...)
	}
	slices.SortFunc(found, func(a, b piece) int { return cmp.Or(cmp.Compare(a.entry, b.entry), cmp.Compare(a.off, b.off)) })
	all := make([]Entry, 0, len(found))
	for _, f := range found {
		e := p.Entries[f.entry]
		e.Off, e.Len = f.off, f.end-f.off
		all = append(all, e)
	}
	return all
}

// piece is what is left of an entry.
type piece struct {
	entry    int
	off, end int64
}

// firsts gives each byte of a file to the first of the file's entries that has it.
func (p *Profile) firsts(entries []int) (found []piece) {
	slices.SortStableFunc(entries, func(a, b int) int { return cmp.Compare(p.Entries[a].Off, p.Entries[b].Off) })
	var open intHeap // entries that may reach beyond at, the first on top
	at := int64(0)
	for next := 0; next < len(entries) || len(open) > 0; {
		if len(open) == 0 {
			at = p.Entries[entries[next]].Off
		}
		for next < len(entries) && p.Entries[entries[next]].Off <= at {
			heap.Push(&open, entries[next])
			next++
		}
		top := open[0]
		if p.Entries[top].end() <= at {
			heap.Pop(&open)
			continue
		}
		stop := int64(math.MaxInt64)
		if next < len(entries) {
			stop = p.Entries[entries[next]].Off
		}
		stop = min(stop, p.Entries[top].end())
		if n := len(found); n > 0 && found[n-1].entry == top && found[n-1].end == at {
			found[n-1].end = stop
		} else {
			found = append(found, piece{top, at, stop})
		}
		at = stop
	}
	return found
}

// intHeap is a heap of the least number.
type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
