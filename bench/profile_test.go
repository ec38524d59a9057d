package main

import (
	"testing"

	"github.com/pagein/pagein/oci/optimize"
	"github.com/pagein/pagein/profile"
)

func TestOnlyPagesThatWereSurelyTouchedCount(t *testing.T) {
	touched, around := touchedBytes(&profile.Profile{Entries: []profile.Entry{
		{Path: "/a", Len: 2 * profile.PageSize, Kind: profile.KindRead},
		{Path: "/a", Off: 8 * profile.PageSize, Len: profile.PageSize, Kind: profile.KindFault},
		{Path: "/b", Len: 16 * profile.PageSize, Kind: profile.KindAround},
		{Path: "/c", Len: 32 * profile.PageSize, Kind: profile.KindMiss},
	}})
	if touched != 3*profile.PageSize || around != 16*profile.PageSize {
		t.Errorf("%d bytes touched and %d around them; want %d and %d", touched, around, 3*profile.PageSize, 16*profile.PageSize)
	}
}

func TestProgramsAreComparedWithWhatIsTouched(t *testing.T) {
	s := programStarts{
		program: program{name: "p"},
		// 1,000 pages are touched, of 2,000 that are hot; compressed they have 1 MB of 2 MB, 0.04 s at 200 Mbit/s.
		image: &laidOut{Result: optimize.Result{Hot: 2000 * profile.PageSize, Compressed: 2_000_000}, touched: 1000 * profile.PageSize},
		plain: []float64{1}, optimized: []float64{0.4}, local: []float64{0.36}, fetched: []float64{1.5}, waits: []float64{30}, joined: []float64{10},
	}
	want := []struct {
		value float64
		met   bool
	}{{1, true}, {0.4, true}, {1.5, false}, {3, false}}
	rows := s.rows()
	if len(rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i, r := range rows {
		if d := r.Value - want[i].value; d > 1e-9 || d < -1e-9 || r.Met != want[i].met {
			t.Errorf("%s is %v, met: %v; want %v, %v", r.Name, r.Value, r.Met, want[i].value, want[i].met)
		}
	}
}
