package node

import (
	"path/filepath"
	"testing"
)

func TestLevelsAreReadOrRefused(t *testing.T) {
	for s, want := range map[string]Level{
		"80%": {Percent: 80}, "1%": {Percent: 1}, "20GB": {Bytes: 20e9}, "64MiB": {Bytes: 64 << 20},
		"": {}, "0%": {}, "100%": {}, "-3%": {}, "0": {}, "80": {Bytes: 80}, "much": {}, "8.5%": {}, "2000000000GB": {},
	} {
		got, err := ParseLevel(s)
		if got != want || (err == nil) != (want != Level{}) {
			t.Errorf("%q: got %+v, %v; want %+v", s, got, err, want)
		}
	}
}

func TestLimitsThatMakeNoSenseTogetherAreRefused(t *testing.T) {
	for _, c := range []struct {
		high, low Level
		ok        bool
	}{
		{Level{Percent: 90}, Level{Percent: 80}, true},
		{Level{Bytes: 5}, Level{Bytes: 5}, true},
		{Level{Percent: 80}, Level{Percent: 90}, false},
		{Level{Bytes: 5}, Level{Bytes: 6}, false},
		{Level{Percent: 80}, Level{Bytes: 6}, false},
	} {
		if err := (CacheLimits{High: c.high, Low: c.low}).Check(); (err == nil) != c.ok {
			t.Errorf("%+v and %+v: %v", c.high, c.low, err)
		}
	}
}

func TestExcessIsWhatLeadsToTheLowWatermark(t *testing.T) {
	percent := CacheLimits{High: Level{Percent: 90}, Low: Level{Percent: 80}}
	bytes := CacheLimits{High: Level{Bytes: 500}, Low: Level{Bytes: 300}}
	for _, c := range []struct {
		name   string
		limits CacheLimits
		space  space
		want   amount
	}{
		{"no limits", CacheLimits{}, space{total: 1000, cache: 1000}, amount{}},
		{"at the high watermark", percent, space{total: 1000, free: 100}, amount{}},
		{"above it", percent, space{total: 1000, free: 99}, amount{bytes: 101}},
		{"too few inodes", percent, space{total: 1000, free: 500, files: 100, freeFiles: 5}, amount{files: 15}},
		{"a disk without a limit on inodes", percent, space{total: 1000, free: 500}, amount{}},
		{"as many bytes as allowed", bytes, space{total: 1000, cache: 500}, amount{}},
		{"too many bytes", bytes, space{total: 1000, free: 400, cache: 501}, amount{bytes: 201}},
		{"a large disk", percent, space{total: 1 << 62, free: 0}, amount{bytes: 1<<62 - part(1<<62, 80)}},
	} {
		if got := c.limits.excess(c.space); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestTheReserveOutlivesTheDaemon makes it, has a successor take it up, and gives it up.
func TestTheReserveOutlivesTheDaemon(t *testing.T) {
	dir := filepath.Join(t.TempDir(), reserveDir)
	roomy := space{total: 1 << 30, free: 1 << 29, files: 1000, freeFiles: 500}
	const want = 1 << 20
	for name, s := range map[string]space{
		"there is no space":   {total: 1 << 30, free: want, files: 1000, freeFiles: 500},
		"there are no inodes": {total: 1 << 30, free: 1 << 29, files: 1000, freeFiles: reserveFiles},
	} {
		r := reserve{dir: dir}
		if err := r.take(want, s); err != nil || r.held != 0 {
			t.Errorf("%s: it has %d bytes, %v", name, r.held, err)
		}
	}
	r := reserve{dir: dir}
	if err := r.take(want, roomy); err != nil || r.held != want {
		t.Fatalf("it has %d bytes, %v", r.held, err)
	}
	next := reserve{dir: dir}
	if err := next.adopt(true); err != nil || next.held < want {
		t.Errorf("a successor finds %d bytes, %v", next.held, err)
	}
	if released, err := next.release(); !released || err != nil {
		t.Errorf("released %v, %v", released, err)
	}
	if released, err := next.release(); released || err != nil {
		t.Errorf("released twice: %v, %v", released, err)
	}
	last := reserve{dir: dir}
	if err := last.adopt(true); err != nil || last.held != 0 {
		t.Errorf("what was given up counts %d bytes, %v", last.held, err)
	}
}
