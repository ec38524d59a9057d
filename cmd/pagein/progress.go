package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/mkfs"
)

// How often progress is shown: on a terminal one line is rewritten, elsewhere lines follow each other.
const (
	progressDelay    = time.Second // before anything is shown on a terminal
	progressInterval = 100 * time.Millisecond
	progressPace     = 10 * time.Second // between lines elsewhere, and before the first
)

// progressLine shows how far long work is. Its methods may be called concurrently.
type progressLine struct {
	w        io.Writer // nil: nothing is shown
	terminal bool

	mu   sync.Mutex
	next time.Time
	on   bool // the terminal's line holds something
}

func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func newProgressLine(w io.Writer, quiet bool) *progressLine {
	if quiet {
		return &progressLine{}
	}
	p := &progressLine{w: w, terminal: onTerminal(w)}
	p.next = time.Now().Add(p.pace(progressDelay))
	return p
}

// pace is the time on a terminal, and progressPace elsewhere.
func (p *progressLine) pace(onTerminal time.Duration) time.Duration {
	if p.terminal {
		return onTerminal
	}
	return progressPace
}

func (p *progressLine) update(s mkfs.Stats) {
	p.show(func() string { return humanize.Comma(s.Files) + " files, " + humanize.IBytes(uint64(s.Bytes)) })
}

// show shows what text returns, if the time has come.
func (p *progressLine) show(text func() string) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(p.pace(progressInterval))
	if p.terminal {
		p.on = true
		fmt.Fprint(p.w, "\r\x1b[K"+p.fit(text()))
		return
	}
	fmt.Fprintf(p.w, "pagein: %s\n", text())
}

// fit cuts a text so that it stays on one line of the terminal, which may have become narrower: what has wrapped could not be rewritten.
func (p *progressLine) fit(text string) string {
	f, ok := p.w.(*os.File)
	if !ok {
		return text
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || len(text) < int(size.Col) {
		return text
	}
	return text[:size.Col-1]
}

// clear empties the terminal's line.
func (p *progressLine) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.on = false
	}
}
