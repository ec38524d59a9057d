package tarstream

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// sparseRecords gathers the PAX records of GNU's sparse formats 0.0 (repeated offset and numbytes), 0.1 (map) and 1.0 (the map stands
// before the data).
type sparseRecords struct {
	major, minor string
	name         string // the real one: "path" then holds a name for readers that do not know the format
	size         int64  // of the whole file
	hasSize      bool
	spans        []Span
	hasMap       bool
}

func (s *sparseRecords) apply(key, value string) (err error) {
	switch key {
	case "GNU.sparse.major":
		s.major = value
	case "GNU.sparse.minor":
		s.minor = value
	case "GNU.sparse.name":
		s.name = value
	case "GNU.sparse.size", "GNU.sparse.realsize":
		s.hasSize = true
		s.size, err = decimal(value)
	case "GNU.sparse.numblocks":
		s.hasMap = true
	case "GNU.sparse.offset":
		var off int64
		if off, err = decimal(value); err == nil {
			err = s.add(Span{Off: off, Len: -1})
		}
	case "GNU.sparse.numbytes":
		last := len(s.spans) - 1
		if last < 0 || s.spans[last].Len != -1 {
			return errors.New("no offset stands before it")
		}
		s.spans[last].Len, err = decimal(value)
	case "GNU.sparse.map":
		err = s.parseMap(value)
	}
	return err
}

func (s *sparseRecords) add(span Span) error {
	if len(s.spans) >= maxSpans {
		return fmt.Errorf("more than %d runs of data", maxSpans)
	}
	s.spans = append(s.spans, span)
	return nil
}

// parseMap reads format 0.1: "offset,length,offset,length".
func (s *sparseRecords) parseMap(value string) error {
	s.hasMap, s.spans = true, nil
	for value != "" {
		var off, length string
		off, value, _ = strings.Cut(value, ",")
		length, value, _ = strings.Cut(value, ",")
		if err := s.addText(off, length); err != nil {
			return err
		}
	}
	return nil
}

func (s *sparseRecords) addText(off, length string) error {
	o, err := decimal(off)
	if err != nil {
		return err
	}
	n, err := decimal(length)
	if err != nil {
		return err
	}
	return s.add(Span{o, n})
}

// sparse completes the header of a member that is sparse in any of the formats; r stands at its data.
func (r *Reader) sparse(h *Header, raw *rawHeader, s *sparseRecords) error {
	switch {
	case raw.flag() == 'S':
		if err := r.oldGNU(raw, s); err != nil {
			return err
		}
	case s.major == "1" && s.minor == "0":
		if err := r.mapBeforeData(s); err != nil {
			return err
		}
	case s.major != "" && s.major != "0":
		return fmt.Errorf("format %s.%s is not known", s.major, s.minor)
	case !s.hasMap:
		return nil
	}
	if !s.hasSize {
		return errors.New("it does not tell the size of the file")
	}
	end, stored := int64(0), int64(0)
	for _, span := range s.spans {
		if span.Len < 0 || span.Off < end || span.Len > s.size-span.Off {
			return fmt.Errorf("run of %d bytes at %d is out of order or outside the file of %d bytes", span.Len, span.Off, s.size)
		}
		if span.Len > 0 {
			h.Spans = append(h.Spans, span)
		}
		end = span.Off + span.Len
		stored += span.Len
	}
	if stored != r.left {
		return fmt.Errorf("%d bytes of data, but runs of %d bytes", r.left, stored)
	}
	h.Size, h.Sparse = s.size, true
	return nil
}

// oldGNU reads the map in a header of type 'S' and in the blocks that extend it.
func (r *Reader) oldGNU(raw *rawHeader, s *sparseRecords) error {
	size, err := number(raw[483:495])
	if err != nil || size < 0 {
		return fmt.Errorf("size of the file %q is no number", raw[483:495])
	}
	s.size, s.hasSize, s.spans = size, true, nil
	fields, extended := raw[386:482], raw[482] != 0
	for {
		for ; len(fields) >= 24; fields = fields[24:] {
			if fields[0] == 0 || fields[12] == 0 {
				break
			}
			if err := s.addBinary(fields); err != nil {
				return err
			}
		}
		if !extended {
			return nil
		}
		if _, err := io.ReadFull(r.r, r.blk[:]); err != nil {
			return fmt.Errorf("map: %w", unexpected(err))
		}
		fields, extended = r.blk[:504], r.blk[504] != 0
	}
}

func (s *sparseRecords) addBinary(fields []byte) error {
	off, err := number(fields[:12])
	if err != nil {
		return err
	}
	length, err := number(fields[12:24])
	if err != nil {
		return err
	}
	if off < 0 || length < 0 {
		return fmt.Errorf("run of %d bytes at %d", length, off)
	}
	return s.add(Span{off, length})
}

// mapBeforeData reads format 1.0: lines with the number of runs and then offset and length of each, padded to a block.
func (r *Reader) mapBeforeData(s *sparseRecords) error {
	lines := lineReader{r: r}
	count, err := lines.number()
	if err != nil {
		return err
	}
	if count > maxSpans {
		return fmt.Errorf("%d runs of data: at most %d are accepted", count, maxSpans)
	}
	s.spans = nil
	for range count {
		off, err := lines.number()
		if err != nil {
			return err
		}
		length, err := lines.number()
		if err != nil {
			return err
		}
		s.spans = append(s.spans, Span{off, length})
	}
	return nil
}

// lineReader reads decimal lines, taking whole blocks from the member's data.
type lineReader struct {
	r    *Reader
	rest []byte
}

func (l *lineReader) number() (int64, error) {
	var digits []byte
	for {
		if len(l.rest) == 0 {
			if _, err := io.ReadFull(l.r, l.r.blk[:]); err != nil {
				return 0, fmt.Errorf("map: %w", unexpected(err))
			}
			l.rest = l.r.blk[:]
		}
		c := l.rest[0]
		l.rest = l.rest[1:]
		if c == '\n' {
			break
		}
		if digits = append(digits, c); len(digits) > 20 {
			return 0, errors.New("map: a line is too long")
		}
	}
	n, err := strconv.ParseUint(string(digits), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("map: %q is no number", digits)
	}
	return int64(n), nil
}
