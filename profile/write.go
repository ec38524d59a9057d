package profile

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// Write writes the profile in the one form that [Read] and people expect. Entries that Read would refuse are an error. What was written before may
// then be on w.
func (p *Profile) Write(w io.Writer) error {
	buffered := bufio.NewWriter(w)
	_, err := fmt.Fprintf(buffered, "%s%s\n", magic, version)
	size := len(magic) + len(version) + 1
	var line []byte
	for i := range p.Entries {
		e := &p.Entries[i]
		if err := e.check(); err != nil {
			return fmt.Errorf("write profile: entry %d: %w", i, err)
		}
		line = strconv.AppendInt(line[:0], int64(e.Time), 10)
		line = strconv.AppendInt(append(line, ' '), e.Off, 10)
		line = strconv.AppendInt(append(line, ' '), e.Len, 10)
		line = append(strconv.AppendQuote(append(line, ' '), e.Path), '\n')
		if size += len(line); size > MaxSize {
			return fmt.Errorf("write profile: entry %d: with it, there would be more than %d bytes", i, MaxSize)
		}
		if err == nil {
			_, err = buffered.Write(line)
		}
	}
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}
