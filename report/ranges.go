package report

import (
	"cmp"
	"slices"
)

// ranges is a set of bytes of a file, or of moments: half-open intervals. Intervals may be added in any order; they are joined now and then.
type ranges struct {
	list   [][2]int64
	joined int // how many there were when they were last joined
}

func (r *ranges) add(from, to int64) {
	if from >= to {
		return
	}
	if k := len(r.list) - 1; k >= 0 && r.list[k][0] <= from && from <= r.list[k][1] {
		r.list[k][1] = max(r.list[k][1], to)
		return
	}
	r.list = append(r.list, [2]int64{from, to})
	if len(r.list) > 2*r.joined+64 {
		r.join()
	}
}

// join sorts the intervals and makes one of those that touch.
func (r *ranges) join() {
	slices.SortFunc(r.list, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	out := r.list[:0]
	for _, i := range r.list {
		if k := len(out) - 1; k >= 0 && i[0] <= out[k][1] {
			out[k][1] = max(out[k][1], i[1])
		} else {
			out = append(out, i)
		}
	}
	r.list, r.joined = out, len(out)
}

// minus is how much is in the set and not in another, nil for an empty one.
func (r *ranges) minus(other *ranges) (n int64) {
	if other == nil {
		return r.sum()
	}
	r.join()
	for _, i := range r.list {
		for _, part := range other.without(i[0], i[1]) {
			n += part[1] - part[0]
		}
	}
	return n
}

// sum is how much is in the set.
func (r *ranges) sum() (n int64) {
	r.join()
	for _, i := range r.list {
		n += i[1] - i[0]
	}
	return n
}
