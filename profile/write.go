package profile

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// The first line.
const (
	magic   = "pagein profile "
	version = "1"
)

// unknown stands for a digest that is not known.
const unknown = "-"

// Write writes the profile as text, in the one form that people expect. What [Read] would refuse is an error. What was written before may then be on w.
func (p *Profile) Write(w io.Writer) error {
	if err := p.write(w); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

// WriteCompressed writes the same, compressed with zstd. Equal profiles give equal bytes.
func (p *Profile) WriteCompressed(w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(false))
	if err == nil {
		err = errors.Join(p.write(z), z.Close())
	}
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

func (p *Profile) write(w io.Writer) error {
	if err := p.check(); err != nil {
		return err
	}
	out := &writer{w: bufio.NewWriter(w), numbers: map[string]int{}}
	out.line(magic + version)
	if p.Subject != "" {
		out.line("subject " + p.Subject)
	}
	out.line("runs " + strconv.Itoa(runs(p.Runs)))
	if p.Ready > 0 {
		out.line("ready " + strconv.FormatInt(p.Ready.Microseconds(), 10))
	}
	for i := range p.Entries {
		if err := p.Entries[i].check(runs(p.Runs)); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		out.entry(&p.Entries[i])
		if out.size > MaxSize {
			return fmt.Errorf("entry %d: with it, there would be more than %d bytes", i, MaxSize)
		}
	}
	return out.w.Flush() // with the first error
}

type writer struct {
	w       *bufio.Writer
	size    int
	numbers map[string]int // of files
	buf     []byte
}

func (w *writer) line(s string) {
	w.buf = append(append(w.buf[:0], s...), '\n')
	w.flush()
}

func (w *writer) flush() {
	w.size += len(w.buf)
	_, _ = w.w.Write(w.buf) // Flush tells
}

func (w *writer) entry(e *Entry) {
	b := w.buf[:0]
	for _, n := range [...]int64{e.Time.Microseconds(), e.Off / PageSize, e.Len / PageSize} {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	b = append(b, kinds[e.Kind], ' ')
	b = append(strconv.AppendInt(b, int64(runs(e.Runs)), 10), ' ')
	if e.Digest == (Digest{}) {
		b = append(b, unknown...)
	} else {
		b = hex.AppendEncode(b, e.Digest[:])
	}
	b = append(b, ' ')
	if n, ok := w.numbers[e.Path]; ok {
		b = strconv.AppendInt(b, int64(n), 10)
	} else {
		w.numbers[e.Path] = len(w.numbers)
		b = append(strconv.AppendInt(b, e.Size, 10), ' ')
		b = strconv.AppendQuote(b, e.Path)
	}
	w.buf = append(b, '\n')
	w.flush()
}
