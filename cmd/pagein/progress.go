package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/mkfs"
)

// progressLine rewrites one line on a terminal, a few times a second.
type progressLine struct {
	w    io.Writer // nil: not a terminal
	next time.Time
	on   bool
}

const progressInterval = 100 * time.Millisecond

func newProgressLine(w io.Writer, quiet bool) *progressLine {
	p := &progressLine{next: time.Now().Add(time.Second)}
	if f, ok := w.(*os.File); ok && !quiet {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			p.w = w
		}
	}
	return p
}

func (p *progressLine) update(s mkfs.Stats) {
	p.show(func() string { return humanize.Comma(s.Files) + " files, " + humanize.IBytes(uint64(s.Bytes)) })
}

// show puts what text returns on the line, if the time has come.
func (p *progressLine) show(text func() string) {
	if p.w == nil || time.Now().Before(p.next) {
		return
	}
	p.next, p.on = time.Now().Add(progressInterval), true
	fmt.Fprint(p.w, "\r\x1b[K"+text())
}

func (p *progressLine) clear() {
	if p.on {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.on = false
	}
}
