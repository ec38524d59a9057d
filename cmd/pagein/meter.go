package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// meterWindow is how far back a rate looks: far enough not to jump, near enough to show that a link has become slow.
const meterWindow = 8 * time.Second

// meter knows how fast bytes come.
type meter struct {
	now     func() time.Time
	samples []sample // the oldest first, within the window but for one
}

type sample struct {
	at   time.Time
	done int64
}

func newMeter() *meter { return &meter{now: time.Now} }

// text says how far the work is: "12 MiB of 40 MiB (30 %), 5 MiB/s, 6 s left". Total is 0 if it is unknown. When done falls, it is other work.
func (m *meter) text(done, total int64) string {
	rate := m.rate(done)
	s := humanize.IBytes(uint64(done))
	if total > 0 {
		s += fmt.Sprintf(" of %s (%d %%)", humanize.IBytes(uint64(total)), 100*min(done, total)/total)
	}
	if rate < 0 {
		return s
	}
	s += fmt.Sprintf(", %s/s", humanize.IBytes(uint64(rate)))
	if total > done && rate > 0 {
		s += fmt.Sprintf(", %s left", remaining(time.Duration(float64(total-done)/rate*float64(time.Second))))
	}
	return s
}

// rate takes a sample and returns the bytes per second of the window, negative if nothing can be said yet.
func (m *meter) rate(done int64) float64 {
	now := m.now()
	if n := len(m.samples); n > 0 && done < m.samples[n-1].done {
		m.samples = m.samples[:0]
	}
	m.samples = append(m.samples, sample{now, done})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= meterWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	passed := now.Sub(first.at).Seconds()
	if passed <= 0 {
		return -1
	}
	return float64(done-first.done) / passed
}

// remaining rounds a time so that it does not pretend to be exact.
func remaining(d time.Duration) string {
	switch {
	case d > 99*time.Hour:
		return "days"
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d s", (d+time.Second-1)/time.Second)
}
