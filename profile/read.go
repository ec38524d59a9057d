package profile

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// maxLine is more than the longest line that [Profile.Write] makes: each byte of a path may take four.
const maxLine = 4*MaxPath + 256

// maxWindow bounds the memory that decompressing needs, in bytes.
const maxWindow = 8 << 20

// zstdMagic begins a zstd frame.
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// Read reads a profile, plain or compressed with zstd, of up to [MaxSize] bytes of text and [MaxEntries] entries. An error says which line is wrong.
func Read(r io.Reader) (*Profile, error) {
	p, err := read(bufio.NewReader(r))
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	return p, nil
}

func read(r *bufio.Reader) (*Profile, error) {
	// A text shorter than the magic is none, which the parser says better.
	if begin, _ := r.Peek(len(zstdMagic)); !bytes.Equal(begin, zstdMagic) {
		return parse(r)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return parse(z)
}

func parse(r io.Reader) (*Profile, error) {
	limited := &io.LimitedReader{R: r, N: MaxSize + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, maxLine)
	p, number := parser{profile: &Profile{}, numbers: map[string]int{}}, 0
	for lines.Scan() {
		number++
		if err := p.line(number, lines.Text()); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d has more than %d bytes", number+1, maxLine)
	case err != nil:
		return nil, err
	case limited.N == 0:
		return nil, fmt.Errorf("it has more than %d bytes", MaxSize)
	case number == 0:
		return nil, errors.New("it is empty")
	}
	return p.profile, p.profile.check()
}

// file is a file that was named.
type file struct {
	path string
	size int64
}

type parser struct {
	profile *Profile
	files   []file
	numbers map[string]int // of files, by path
	headers int            // how many of the possible header lines can come no more
}

func (p *parser) line(number int, s string) error {
	if number == 1 {
		return checkFirst(s)
	}
	if s == "" || s[0] == '#' {
		return nil
	}
	if s[0] >= 'a' && s[0] <= 'z' {
		return p.header(s)
	}
	p.headers = len(headers)
	if len(p.profile.Entries) == MaxEntries {
		return fmt.Errorf("there are more than %d entries", MaxEntries)
	}
	e, err := p.entry(s)
	if err == nil {
		err = e.check(runs(p.profile.Runs))
	}
	p.profile.Entries = append(p.profile.Entries, e)
	return err
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

// headers are the lines that may stand before the entries, in this order.
var headers = [...]struct {
	name string
	set  func(p *Profile, value string) error
}{
	{"subject", func(p *Profile, value string) error {
		p.Subject = value
		return nil
	}},
	{"runs", func(p *Profile, value string) error {
		n, err := parseNumber(value)
		p.Runs = int(min(n, MaxRuns+1))
		return err
	}},
	{"ready", func(p *Profile, value string) (err error) {
		p.Ready, err = parseTime(value)
		return err
	}},
}

func (p *parser) header(s string) error {
	name, value, _ := strings.Cut(s, " ")
	for i := p.headers; i < len(headers); i++ {
		if headers[i].name != name {
			continue
		}
		p.headers = i + 1
		if err := headers[i].set(p.profile, value); err != nil {
			return fmt.Errorf("%s %.30q: %w", name, value, err)
		}
		return p.profile.check()
	}
	return fmt.Errorf("%.30q is unknown here, or was there before", name)
}

// fields are those of an entry before its file.
const fields = 6

func (p *parser) entry(s string) (e Entry, err error) {
	var field [fields]string
	for i, name := range [fields]string{"time", "page", "number of pages", "kind", "runs", "digest"} {
		var found bool
		if field[i], s, found = strings.Cut(s, " "); !found {
			return e, fmt.Errorf("want TIME PAGE PAGES KIND RUNS DIGEST FILE; there is nothing behind the %s", name)
		}
	}
	if e.Time, err = parseTime(field[0]); err != nil {
		return e, fmt.Errorf("the time %.30q: %w", field[0], err)
	}
	if e.Off, err = parsePages(field[1]); err != nil {
		return e, fmt.Errorf("the page %.30q: %w", field[1], err)
	}
	if e.Len, err = parsePages(field[2]); err != nil {
		return e, fmt.Errorf("the number of pages %.30q: %w", field[2], err)
	}
	kind := strings.Index(kinds, field[3])
	if len(field[3]) != 1 || kind < 0 {
		return e, fmt.Errorf("the kind %.30q is none of the letters %s", field[3], kinds)
	}
	e.Kind = Kind(kind)
	count, err := parseNumber(field[4])
	if err != nil || count == 0 {
		return e, fmt.Errorf("the runs %.30q are no number above 0", field[4])
	}
	e.Runs = int(min(count, MaxRuns+1))
	if e.Digest, err = parseDigest(field[5]); err != nil {
		return e, fmt.Errorf("the digest %.40q: %w", field[5], err)
	}
	f, err := p.file(s)
	e.Path, e.Size = f.path, f.size
	return e, err
}

// file reads SIZE "PATH" of a file that was not named yet, or the number of one that was.
func (p *parser) file(s string) (file, error) {
	first, quoted, isNew := strings.Cut(s, " ")
	n, err := parseNumber(first)
	if err != nil {
		return file{}, fmt.Errorf("the file %.30q: %w", first, err)
	}
	if !isNew {
		if n >= int64(len(p.files)) {
			return file{}, fmt.Errorf("file %d was not named yet", n)
		}
		return p.files[n], nil
	}
	if quoted == "" || quoted[0] != '"' {
		return file{}, errors.New("the path is not in double quotes")
	}
	path, err := strconv.Unquote(quoted)
	if err != nil {
		return file{}, errors.New("the path is not quoted as in Go")
	}
	if known, ok := p.numbers[path]; ok {
		return file{}, fmt.Errorf("the path is that of file %d", known)
	}
	p.numbers[path] = len(p.files)
	p.files = append(p.files, file{path, n})
	return p.files[len(p.files)-1], nil
}

func parseDigest(s string) (d Digest, err error) {
	if s == unknown {
		return d, nil
	}
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(d) || s != strings.ToLower(s) {
		return d, fmt.Errorf("it is neither %s nor %d lower-case hex digits", unknown, 2*len(d))
	}
	if d = Digest(raw); d == (Digest{}) {
		return d, fmt.Errorf("no data has it; an unknown one is %s", unknown)
	}
	return d, nil
}

func parseTime(s string) (time.Duration, error) {
	n, err := parseNumber(s)
	if err == nil && n > maxTime.Microseconds() {
		err = fmt.Errorf("it is above %d microseconds", maxTime.Microseconds())
	}
	return time.Duration(n) * time.Microsecond, err
}

func parsePages(s string) (int64, error) {
	n, err := parseNumber(s)
	if err == nil && n > maxBytes/PageSize {
		err = fmt.Errorf("it is above %d", int64(maxBytes/PageSize))
	}
	return n * PageSize, err
}

// parseNumber reads a decimal number in its one form.
func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 60)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("it is no decimal number from 0 to 2^60-1")
	}
	return int64(n), nil
}
