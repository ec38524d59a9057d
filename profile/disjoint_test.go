package profile_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pagein/pagein/profile"
)

const page = profile.PageSize

// touches makes a profile of pages of two files, a letter for the file before each.
func touches(ranges ...[3]int64) *profile.Profile {
	p := &profile.Profile{}
	for i, r := range ranges {
		p.Entries = append(p.Entries, profile.Entry{
			Path: "/" + string(rune('a'+r[0])), Off: r[1] * page, Len: r[2] * page, Time: time.Duration(i) * time.Second,
		})
	}
	return p
}

// listed is the reverse of touches.
func listed(entries []profile.Entry) (all [][3]int64) {
	for _, e := range entries {
		all = append(all, [3]int64{int64(e.Path[1] - 'a'), e.Off / page, e.Len / page})
	}
	return all
}

func TestEachPageIsKeptWhereItWasTouchedFirst(t *testing.T) {
	for name, c := range map[string]struct{ in, want [][3]int64 }{
		"nothing":            {},
		"apart":              {[][3]int64{{0, 0, 1}, {0, 5, 1}}, [][3]int64{{0, 0, 1}, {0, 5, 1}}},
		"again":              {[][3]int64{{0, 0, 2}, {1, 0, 1}, {0, 0, 2}}, [][3]int64{{0, 0, 2}, {1, 0, 1}}},
		"around the first":   {[][3]int64{{0, 4, 2}, {0, 0, 10}}, [][3]int64{{0, 4, 2}, {0, 0, 4}, {0, 6, 4}}},
		"inside the first":   {[][3]int64{{0, 0, 10}, {0, 4, 2}}, [][3]int64{{0, 0, 10}}},
		"across":             {[][3]int64{{0, 0, 4}, {0, 2, 4}, {0, 1, 9}}, [][3]int64{{0, 0, 4}, {0, 4, 2}, {0, 6, 4}}},
		"other file between": {[][3]int64{{1, 3, 1}, {0, 3, 1}, {1, 2, 3}}, [][3]int64{{1, 3, 1}, {0, 3, 1}, {1, 2, 1}, {1, 4, 1}}},
	} {
		if got := listed(touches(c.in...).Disjoint()); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// checkDisjoint compares with counting pages one by one, as far as there are not too many.
func checkDisjoint(t *testing.T, p *profile.Profile) {
	t.Helper()
	type at struct {
		path string
		off  int64
	}
	first := map[at]time.Duration{}
	for _, e := range p.Entries {
		if e.Len > 1000*page || len(first) > 100_000 {
			return
		}
		for off := e.Off; off < e.Off+e.Len; off += page {
			if _, ok := first[at{e.Path, off}]; !ok {
				first[at{e.Path, off}] = e.Time
			}
		}
	}
	got := p.Disjoint()
	for _, e := range got {
		for off := e.Off; off < e.Off+e.Len; off += page {
			when, ok := first[at{e.Path, off}]
			if !ok || when != e.Time {
				t.Fatalf("page %d of %s: at %v, want %v, %v; entries %+v", off/page, e.Path, e.Time, when, ok, p.Entries)
			}
			delete(first, at{e.Path, off})
		}
	}
	if len(first) > 0 {
		t.Fatalf("%d pages are lost of %+v", len(first), p.Entries)
	}
}

func TestNoPageIsLostOrKeptTwice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		p := touches()
		for i := range random.IntN(40) {
			e := touches([3]int64{random.Int64N(2), random.Int64N(30), 1 + random.Int64N(12)}).Entries[0]
			e.Time = time.Duration(i)
			p.Entries = append(p.Entries, e)
		}
		checkDisjoint(t, p)
	}
}

func TestManyOverlappingEntriesTakeNoTime(t *testing.T) {
	p := touches()
	for i := range int64(profile.MaxEntries) { // each begins a little before the one before, and is longer
		p.Entries = append(p.Entries, profile.Entry{Path: "/a", Off: (profile.MaxEntries - i) * page, Len: (2*i + 1) * page})
	}
	if got := p.Disjoint(); len(got) != 2*profile.MaxEntries-1 {
		t.Errorf("%d entries", len(got))
	}
	if files, bytes := p.Totals(); files != 1 || bytes != (2*profile.MaxEntries-1)*page {
		t.Errorf("%d files, %d bytes", files, bytes)
	}
}

func TestPagesThatFollowEachOtherBecomeOneEntry(t *testing.T) {
	const ms = time.Millisecond
	p := &profile.Profile{}
	for _, e := range []struct {
		path string
		page int64
		time time.Duration
		kind profile.Kind
		data byte // begins its digest
	}{
		{"/a", 0, 0, profile.KindRead, 0}, {"/b", 7, 1 * ms, profile.KindRead, 0}, {"/a", 1, 3 * ms, profile.KindRead, 0}, {"/a", 2, 6 * ms, profile.KindRead, 0},
		{"/a", 3, 12 * ms, profile.KindRead, 0},  // too late
		{"/a", 4, 12 * ms, profile.KindFault, 0}, // another kind
		{"/a", 6, 12 * ms, profile.KindFault, 0}, // a gap
		{"/a", 7, 12 * ms, profile.KindFault, 1}, // data with another digest
	} {
		p.Entries = append(p.Entries, profile.Entry{Path: e.path, Off: e.page * page, Len: page, Time: e.time, Kind: e.kind, Digest: profile.Digest{e.data}})
	}
	want := [][3]int64{{0, 0, 3}, {1, 7, 1}, {0, 3, 1}, {0, 4, 1}, {0, 6, 1}, {0, 7, 1}}
	for range 2 { // again changes nothing
		if p.Coalesce(); !slices.Equal(listed(p.Entries), want) {
			t.Errorf("%v, want %v", listed(p.Entries), want)
		}
	}
}
