package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
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

func TestProgressStaysOnOneLineOfTheTerminal(t *testing.T) {
	primary, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.Feature(t, err == nil, "pseudo-terminals")
	defer primary.Close()
	if err := unix.IoctlSetPointerInt(int(primary.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(primary.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 5, Col: 20}); err != nil {
		t.Fatal(err)
	}
	p := newProgressLine(terminal, false)
	p.next = time.Now()
	p.show(func() string { return strings.Repeat("x", 100) })
	p.clear()
	buf := make([]byte, 200)
	n, err := primary.Read(buf)
	if got, want := string(buf[:n]), "\r\x1b[K"+strings.Repeat("x", 19); err != nil || !strings.HasPrefix(got, want) || strings.HasPrefix(got, want+"x") {
		t.Errorf("the terminal got %q, %v", got, err)
	}
}
