package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMeterTellsRateAndTimeLeft(t *testing.T) {
	const mib = 1 << 20
	now := time.Unix(0, 0)
	m := &meter{now: func() time.Time { return now }}
	for _, c := range []struct {
		seconds     float64 // since the last
		done, total int64
		want        string
	}{
		{0, 0, 100 * mib, "0 B of 100 MiB (0 %)"},
		{1, 10 * mib, 100 * mib, "10 MiB of 100 MiB (10 %), 10 MiB/s, 9 s left"},
		{1, 20 * mib, 100 * mib, "20 MiB of 100 MiB (20 %), 10 MiB/s, 8 s left"},
		{8, 20 * mib, 100 * mib, "20 MiB of 100 MiB (20 %), 0 B/s"},
		{8, 28 * mib, 100 * mib, "28 MiB of 100 MiB (28 %), 1.0 MiB/s, 1 min 12 s left"},
		{1, 100 * mib, 100 * mib, "100 MiB of 100 MiB (100 %), 8.9 MiB/s"},
		{1, 1 * mib, 10 * mib, "1.0 MiB of 10 MiB (10 %)"}, // other work
		{1, 3 * mib, 0, "3.0 MiB, 2.0 MiB/s"},
		{1, 4 * mib, 30000 * mib, "4.0 MiB of 29 GiB (0 %), 1.5 MiB/s, 5 h 33 min left"},
	} {
		now = now.Add(time.Duration(c.seconds * float64(time.Second)))
		if got := m.text(c.done, c.total); got != c.want {
			t.Errorf("%d of %d: %q, want %q", c.done, c.total, got, c.want)
		}
	}
}

func TestMeterNeedsLittleMemory(t *testing.T) {
	now := time.Unix(0, 0)
	m := &meter{now: func() time.Time { return now }}
	for i := range int64(100_000) {
		now = now.Add(progressInterval)
		m.rate(i)
	}
	if n := len(m.samples); n > 100 || cap(m.samples) > 1000 {
		t.Errorf("%d samples are kept", n)
	}
}

func TestProgressComesInLinesWhereThereIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	p := newProgressLine(&out, false)
	p.show(func() string { return "too early" })
	p.next = time.Now()
	p.show(func() string { return "half of it" })
	p.show(func() string { return "too soon" })
	p.clear()
	if got := out.String(); got != "pagein: half of it\n" {
		t.Errorf("printed %q", got)
	}
	out.Reset()
	quiet := newProgressLine(&out, true)
	quiet.show(func() string { return "x" })
	quiet.clear()
	if out.Len() > 0 {
		t.Errorf("printed %q although quiet", out.String())
	}
}

func TestProgressRewritesTheLineOfATerminal(t *testing.T) {
	var out bytes.Buffer
	p := &progressLine{w: &out, terminal: true}
	p.show(func() string { return "one" })
	p.next = time.Now()
	p.show(func() string { return "two" })
	p.clear()
	p.clear()
	if got := out.String(); got != "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K" || strings.Contains(got, "\n") {
		t.Errorf("printed %q", got)
	}
}
