package profile

import (
	"cmp"
	"maps"
	"slices"
)

// stretch is a part of a file that is the same in all of several profiles: in each of them all of it is in one entry, or none.
type stretch struct {
	path     string
	off, len int64
	in       []*Entry // for each profile, the entry that has it, or nil; valid during the call only
}

// sweep calls f for each stretch of each file that any of the profiles names, file by file and from front to back. In none of them may entries overlap, as [Profile.Disjoint] makes sure.
func sweep(all [][]Entry, f func(stretch)) {
	files := make(map[string][]edge)
	for k, entries := range all {
		for i := range entries {
			e := &entries[i]
			files[e.Path] = append(files[e.Path], edge{e.Off, k, e}, edge{e.end(), k, nil})
		}
	}
	in := make([]*Entry, len(all))
	for _, path := range slices.Sorted(maps.Keys(files)) {
		edges := files[path]
		slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), compareEnds(a, b)) })
		open := 0
		for i, d := range edges {
			switch {
			case d.begins != nil:
				open++
			default:
				open--
			}
			in[d.profile] = d.begins
			if open > 0 && edges[i+1].at > d.at {
				f(stretch{path, d.at, edges[i+1].at - d.at, in})
			}
		}
	}
}

// edge is where an entry of a profile begins or ends in a file.
type edge struct {
	at      int64
	profile int
	begins  *Entry // nil if one ends
}

// compareEnds has entries end before others begin at the same place.
func compareEnds(a, b edge) int {
	switch {
	case (a.begins == nil) == (b.begins == nil):
		return 0
	case a.begins == nil:
		return -1
	}
	return 1
}
