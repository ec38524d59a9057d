package profile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxProfiles is how many profiles can be merged at a time.
const MaxProfiles = 1000

// Merge makes one profile of several, of what was touched in at least least of all their runs; 0 or 1 keeps everything. What comes first in it comes first on average in those that have it,
// so slow and fast runs count alike. What is said of a file's size and data is taken from the last profile that knows it, and so is the subject.
func Merge(profiles []*Profile, least int) (*Profile, error) {
	if len(profiles) == 0 || len(profiles) > MaxProfiles {
		return nil, fmt.Errorf("merge profiles: there are %d, not 1 to %d", len(profiles), MaxProfiles)
	}
	m := merger{least: max(least, 1), result: &Profile{}}
	var all [][]Entry
	var ready []time.Duration
	for _, p := range profiles {
		entries := p.Disjoint()
		all = append(all, entries)
		m.result.Runs += runs(p.Runs)
		m.result.Subject = cmp.Or(p.Subject, m.result.Subject)
		if p.Ready > 0 {
			ready = append(ready, p.Ready)
		}
		m.ranks = append(m.ranks, ranks(entries))
	}
	if m.result.Runs > MaxRuns {
		return nil, fmt.Errorf("merge profiles: they sum up %d runs, at most %d are possible", m.result.Runs, MaxRuns)
	}
	if m.least > m.result.Runs {
		return nil, fmt.Errorf("merge profiles: nothing can have been touched in %d of %d runs", m.least, m.result.Runs)
	}
	if len(ready) > 0 {
		slices.Sort(ready)
		m.result.Ready = ready[len(ready)/2]
	}
	sweep(all, m.add)
	if len(m.found) > MaxEntries {
		return nil, errors.New("merge profiles: the result would have more entries than a profile may: merge fewer, or demand more runs")
	}
	slices.SortFunc(m.found, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Off, b.Off))
	})
	for _, r := range m.found {
		m.result.Entries = append(m.result.Entries, r.Entry)
	}
	m.result.Coalesce()
	return m.result, nil
}

type merger struct {
	least  int
	ranks  []map[*Entry]float64 // of each profile's entries
	found  []ranked
	result *Profile
}

type ranked struct {
	Entry
	rank float64
}

// ranks says how much of a profile came before each entry, from 0 to 1.
func ranks(entries []Entry) map[*Entry]float64 {
	total, before := 0.0, 0.0
	for i := range entries {
		total += float64(entries[i].Len)
	}
	all := make(map[*Entry]float64, len(entries))
	for i := range entries {
		all[&entries[i]] = before / total
		before += float64(entries[i].Len)
	}
	return all
}

// add adds a stretch, if it was touched often enough.
func (m *merger) add(s stretch) {
	r := ranked{Entry: Entry{Path: s.path, Off: s.off, Len: s.len, Kind: KindMiss}}
	n := 0
	var times time.Duration
	for k, e := range s.in {
		if e == nil {
			continue
		}
		n++
		r.rank += m.ranks[k][e]
		times += e.Time
		r.Runs += runs(e.Runs)
		r.Kind = min(r.Kind, e.Kind)
		r.Size = cmp.Or(e.Size, r.Size)
		if e.Digest != (Digest{}) {
			r.Digest = e.Digest
		}
	}
	if r.Runs < m.least {
		return
	}
	r.rank /= float64(n)
	r.Time = times / time.Duration(n)
	m.found = append(m.found, r)
}
