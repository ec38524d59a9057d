package profile_test

import (
	"math/rand/v2"
	"testing"

	"github.com/pagein/pagein/profile"
)

// TestWhatTheNextRunTouchesIsForeseen has each run touch 100 pages that all touch, and 40 of 400 others.
func TestWhatTheNextRunTouchesIsForeseen(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	run := func() *profile.Profile {
		p := &profile.Profile{Entries: []profile.Entry{
			{Path: "/a", Len: 100 * profile.PageSize},
			{Path: "/b", Off: random.Int64N(1000) * 100 * profile.PageSize, Len: 100 * profile.PageSize, Kind: profile.KindAround}, // nobody knows whether it was touched
		}}
		for _, i := range random.Perm(400)[:40] {
			p.Entries = append(p.Entries, profile.Entry{Path: "/a", Off: int64(100+i) * profile.PageSize, Len: profile.PageSize})
		}
		return p
	}
	for _, n := range []int{2, 3, 8} {
		var foreseen, found int64 // the estimate is a tenth too high where each page is touched by a tenth of the runs
		for range 20 {
			var all []*profile.Profile
			for range n {
				all = append(all, run())
			}
			p, err := profile.Merge(all, 0)
			if err != nil {
				t.Fatal(err)
			}
			foreseen += p.Unseen()
			for _, e := range profile.Diff(p, run()).OnlyB {
				if e.Kind != profile.KindAround {
					found += e.Len
				}
			}
		}
		if foreseen < found*9/10 || foreseen > found*5/4 {
			t.Errorf("after %d runs the next was to touch %d new bytes, and touched %d", n, foreseen/20, found/20)
		}
	}
	if n := run().Unseen(); n != 0 {
		t.Errorf("a single run foresees %d bytes", n)
	}
}

// TestRunsThatTouchTheSameAreEnough has two runs of a thousand pages, of which some are touched by one of them only: the third is to touch half as many anew.
func TestRunsThatTouchTheSameAreEnough(t *testing.T) {
	for own, want := range map[int64]bool{0: true, 4: true, 20: false} { // pages of each run
		run := func(path string) *profile.Profile {
			p := &profile.Profile{Entries: []profile.Entry{{Path: "/same", Len: 1000 * profile.PageSize}}}
			if own > 0 {
				p.Entries = append(p.Entries, profile.Entry{Path: path, Len: own * profile.PageSize})
			}
			return p
		}
		p, err := profile.Merge([]*profile.Profile{run("/one"), run("/other")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if p.Enough() != want {
			t.Errorf("with %d pages of its own each, %d bytes unseen: enough is %v", own, p.Unseen(), !want)
		}
	}
}
