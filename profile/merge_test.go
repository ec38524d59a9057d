package profile_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/profile"
)

func merged(t *testing.T, least int, profiles ...*profile.Profile) *profile.Profile {
	t.Helper()
	p, err := profile.Merge(profiles, least)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(&bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAMergeKeepsWhatEnoughRunsTouched(t *testing.T) {
	a, b, c := touches([3]int64{0, 0, 4}, [3]int64{1, 0, 1}), touches([3]int64{0, 2, 4}), touches([3]int64{0, 3, 1}, [3]int64{1, 0, 1})
	for least, want := range map[int][][3]int64{
		0: {{0, 0, 2}, {0, 2, 1}, {0, 3, 1}, {0, 4, 2}, {1, 0, 1}},
		1: {{0, 0, 2}, {0, 2, 1}, {0, 3, 1}, {0, 4, 2}, {1, 0, 1}},
		2: {{0, 2, 1}, {0, 3, 1}, {1, 0, 1}},
		3: {{0, 3, 1}},
	} {
		p := merged(t, least, a, b, c)
		if got := listed(p.Entries); !slices.Equal(got, want) {
			t.Errorf("%d of 3: %v, want %v", least, got, want)
		}
		for _, e := range p.Entries {
			if e.Path == "/a" && e.Off == 3*page && e.Runs != 3 || p.Runs != 3 {
				t.Errorf("%d of 3: %+v of %d runs", least, e, p.Runs)
			}
		}
	}
	both := merged(t, 3, merged(t, 1, a, b), c) // a merge of merges counts runs, not profiles
	if got := listed(both.Entries); !slices.Equal(got, [][3]int64{{0, 3, 1}}) {
		t.Errorf("merged in two steps: %v", got)
	}
}

func TestAMergeIsInTheOrderOfItsSources(t *testing.T) {
	order := [][3]int64{{1, 5, 1}, {0, 9, 1}, {1, 0, 2}, {0, 0, 1}}
	fast, slow := touches(order...), touches(order...)
	for i := range slow.Entries {
		slow.Entries[i].Time *= 100
	}
	p := merged(t, 1, fast, slow, touches(order[:3]...)) // one of them ended early
	if got := listed(p.Entries); !slices.Equal(got, order) {
		t.Errorf("%v", got)
	}
}

func TestAMergeKnowsWhatTheLastSourceKnows(t *testing.T) {
	old := &profile.Profile{Subject: "sha256:1", Ready: time.Second, Entries: []profile.Entry{{Path: "/a", Size: 1, Len: page, Digest: profile.Digest{1}, Kind: profile.KindMiss}}}
	next := &profile.Profile{Subject: "sha256:2", Ready: 3 * time.Second, Entries: []profile.Entry{{Path: "/a", Size: 2, Len: page, Digest: profile.Digest{2}, Kind: profile.KindFault}}}
	blind := touches([3]int64{0, 0, 1})
	p := merged(t, 1, old, next, blind)
	e := p.Entries[0]
	if p.Subject != "sha256:2" || p.Ready != 3*time.Second || len(p.Entries) != 1 || e.Size != 2 || e.Digest != (profile.Digest{2}) || e.Kind != profile.KindRead || e.Runs != 3 {
		t.Errorf("%+v", p)
	}
}

func TestImpossibleMergesAreRefused(t *testing.T) {
	one := touches([3]int64{0, 0, 1})
	for says, c := range map[string]struct {
		least    int
		profiles []*profile.Profile
	}{
		"there are 0":               {},
		"there are 1001":            {0, make([]*profile.Profile, profile.MaxProfiles+1)},
		"in 3 of 2 runs":            {3, []*profile.Profile{one, one}},
		"they sum up 1048577 runs":  {1, []*profile.Profile{one, {Runs: profile.MaxRuns}}},
		"more entries than a profi": {1, []*profile.Profile{scattered(0), scattered(1)}},
	} {
		if _, err := profile.Merge(c.profiles, c.least); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// scattered names every second page of four.
func scattered(from int64) *profile.Profile {
	p := &profile.Profile{}
	for i := range int64(profile.MaxEntries) {
		p.Entries = append(p.Entries, profile.Entry{Path: "/a", Off: (4*i + 2*from) * page, Len: page})
	}
	return p
}

func TestADifferenceNamesEachPageOnce(t *testing.T) {
	d := profile.Diff(touches([3]int64{0, 0, 4}, [3]int64{0, 6, 2}, [3]int64{1, 0, 1}), touches([3]int64{0, 3, 4}, [3]int64{0, 2, 1}, [3]int64{2, 0, 1}))
	for name, c := range map[string]struct {
		got  []profile.Entry
		want [][3]int64
	}{
		"both":   {d.Both, [][3]int64{{0, 2, 2}, {0, 6, 1}}},
		"only a": {d.OnlyA, [][3]int64{{0, 0, 2}, {0, 7, 1}, {1, 0, 1}}},
		"only b": {d.OnlyB, [][3]int64{{0, 4, 2}, {2, 0, 1}}},
	} {
		if got := listed(c.got); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if n := profile.Bytes(d.OnlyA); n != 4*page {
		t.Errorf("%d bytes are only in a", n)
	}
}
