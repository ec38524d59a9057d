package profile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxLine is more than the longest line that [Profile.Write] makes: each byte of a path may take four.
const maxLine = 4*MaxPath + 128

// Read reads a profile of up to [MaxSize] bytes. An error says which line is wrong.
func Read(r io.Reader) (*Profile, error) {
	limited := &io.LimitedReader{R: r, N: MaxSize + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxLine)
	p, number := parser{paths: map[string]string{}}, 0
	for lines.Scan() {
		number++
		if err := p.line(number, lines.Text()); err != nil {
			return nil, fmt.Errorf("read profile: line %d: %w", number, err)
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("read profile: line %d has more than %d bytes", number+1, maxLine)
	case err != nil:
		return nil, fmt.Errorf("read profile: %w", err)
	case limited.N == 0:
		return nil, fmt.Errorf("read profile: it has more than %d bytes", MaxSize)
	case number == 0:
		return nil, errors.New("read profile: it is empty")
	}
	return &p.profile, nil
}

type parser struct {
	profile Profile
	paths   map[string]string // so that equal paths share memory
}

func (p *parser) line(number int, s string) error {
	if number == 1 {
		return checkFirst(s)
	}
	if s == "" || s[0] == '#' {
		return nil
	}
	e, err := parseEntry(s)
	if err != nil {
		return err
	}
	if known, ok := p.paths[e.Path]; ok {
		e.Path = known
	} else {
		p.paths[e.Path] = e.Path
	}
	p.profile.Entries = append(p.profile.Entries, e)
	return nil
}

func checkFirst(s string) error {
	v, ok := strings.CutPrefix(s, magic)
	if !ok {
		return fmt.Errorf("it is no profile: want %q", magic+version)
	}
	if v != version {
		return fmt.Errorf("version %.20q is unknown, only %s is known; a newer pagein may read it", v, version)
	}
	return nil
}

func parseEntry(s string) (e Entry, err error) {
	var nanoseconds int64
	for _, field := range []struct {
		name string
		to   *int64
	}{{"time", &nanoseconds}, {"offset", &e.Off}, {"length", &e.Len}} {
		text, rest, found := strings.Cut(s, " ")
		if !found {
			return e, fmt.Errorf("want TIME OFFSET LENGTH \"PATH\"; there is nothing behind the %s", field.name)
		}
		if *field.to, err = parseNumber(text); err != nil {
			return e, fmt.Errorf("the %s %.30q: %w", field.name, text, err)
		}
		s = rest
	}
	if len(s) == 0 || s[0] != '"' {
		return e, errors.New("the path is not in double quotes")
	}
	if e.Path, err = strconv.Unquote(s); err != nil {
		return e, errors.New("the path is not quoted as in Go")
	}
	e.Time = time.Duration(nanoseconds)
	return e, e.check()
}

// parseNumber reads a decimal number in its one form.
func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("it is no decimal number from 0 to 2^63-1")
	}
	return int64(n), nil
}
