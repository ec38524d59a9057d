package profile

// Difference is what two profiles have in common and what only one of them has: entries that do not overlap, file by file.
type Difference struct {
	Both, OnlyA, OnlyB []Entry
}

// Diff compares two profiles page by page; when and how pages were touched does not count.
func Diff(a, b *Profile) Difference {
	var d Difference
	sweep([][]Entry{a.Disjoint(), b.Disjoint()}, func(s stretch) {
		list, e := &d.Both, s.in[0]
		switch {
		case s.in[0] == nil:
			list, e = &d.OnlyB, s.in[1]
		case s.in[1] == nil:
			list = &d.OnlyA
		}
		part := *e
		part.Off, part.Len = s.off, s.len
		if k := len(*list) - 1; k >= 0 && (*list)[k].Path == part.Path && (*list)[k].end() == part.Off {
			(*list)[k].Len += part.Len
			return
		}
		*list = append(*list, part)
	})
	return d
}

// Bytes is the length of all entries together.
func Bytes(entries []Entry) (sum int64) {
	for _, e := range entries {
		sum = min(sum, maxBytes) + e.Len
	}
	return sum
}
