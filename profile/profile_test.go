package profile_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pagein/pagein/profile"
)

// golden is a profile as text, and sample the same as values.
const golden = `pagein profile 1
0 0 4096 "/usr/bin/python3"
1520000 131072 131072 "/usr/bin/python3"
1520000 0 1 "/with \"quotes\", \n and \xff bytes"
9223372036854775807 9223372036854775806 1 "/ä/日"
`

var sample = profile.Profile{Entries: []profile.Entry{
	{Path: "/usr/bin/python3", Len: 4096},
	{Path: "/usr/bin/python3", Off: 131072, Len: 131072, Time: 1520 * time.Microsecond},
	{Path: "/with \"quotes\", \n and \xff bytes", Len: 1, Time: 1520 * time.Microsecond},
	{Path: "/ä/日", Off: math.MaxInt64 - 1, Len: 1, Time: math.MaxInt64},
}}

func TestProfilesSurviveTheirText(t *testing.T) {
	var b bytes.Buffer
	if err := sample.Write(&b); err != nil || b.String() != golden {
		t.Errorf("wrote %s, %v", b.String(), err)
	}
	got, err := profile.Read(iotest.OneByteReader(strings.NewReader(golden)))
	if err != nil || !slices.Equal(got.Entries, sample.Entries) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestCommentsAndEmptyLinesMeanNothing(t *testing.T) {
	text := strings.Replace(golden, "\n", "\n# recorded on a Monday\n\n", 2)
	got, err := profile.Read(strings.NewReader(strings.TrimSuffix(text, "\n")))
	if err != nil || !slices.Equal(got.Entries, sample.Entries) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestWhatIsNoProfileIsRefusedWithTheReason(t *testing.T) {
	const head = "pagein profile 1\n"
	for name, c := range map[string]struct{ text, says string }{
		"empty":              {"", "empty"},
		"something else":     {"hello\n", "line 1: it is no profile"},
		"newer":              {"pagein profile 2\n", `version "2" is unknown`},
		"comment first":      {"# x\n" + head, "line 1"},
		"too few fields":     {head + "0 0 \"/a\"\n", "nothing behind the length"},
		"only a number":      {head + "0\n", "nothing behind the time"},
		"negative":           {head + "0 -1 1 \"/a\"\n", "the offset"},
		"plus":               {head + "+1 0 1 \"/a\"\n", "the time"},
		"leading zero":       {head + "0 00 1 \"/a\"\n", "the offset"},
		"too large":          {head + "0 9223372036854775808 1 \"/a\"\n", "the offset"},
		"no bytes":           {head + "0 0 0 \"/a\"\n", "the length 0"},
		"overflow":           {head + "0 2 9223372036854775807 \"/a\"\n", "the length"},
		"two spaces":         {head + "0  0 1 \"/a\"\n", "the offset"},
		"no quotes":          {head + "0 0 1 /a\n", "double quotes"},
		"other quotes":       {head + "0 0 1 `/a`\n", "double quotes"},
		"open quotes":        {head + "0 0 1 \"/a\n", "not quoted"},
		"more behind it":     {head + "0 0 1 \"/a\" x\n", "not quoted"},
		"relative":           {head + "0 0 1 \"a\"\n", "does not begin"},
		"the top":            {head + "0 0 1 \"/\"\n", "nothing behind it"},
		"leads out":          {head + "0 0 1 \"/a/../b\"\n", `component ".."`},
		"ends in a slash":    {head + "0 0 1 \"/a/\"\n", `component ""`},
		"NUL":                {head + "0 0 1 \"/a\\x00\"\n", "NUL"},
		"long path":          {head + "0 0 1 \"/" + strings.Repeat("a", 4096) + "\"\n", "4097 bytes"},
		"long line":          {head + strings.Repeat("1", 1<<20), "line 2 has more than"},
		"second line is bad": {head + "0 0 1 \"/a\"\nx\n", "line 3"},
	} {
		if got, err := profile.Read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
	}
}

// endless repeats a line.
type endless struct{ line, left string }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == "" {
		e.left = e.line
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

func TestProfilesAreBounded(t *testing.T) {
	head := strings.NewReader("pagein profile 1\n")
	if _, err := profile.Read(io.MultiReader(head, &endless{line: "#" + strings.Repeat("x", 9000) + "\n"})); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("error is %v", err)
	}
}

func TestImpossibleEntriesAreNotWritten(t *testing.T) {
	for _, e := range []profile.Entry{{}, {Path: "a", Len: 1}, {Path: "/a"}, {Path: "/a", Off: -1, Len: 1}, {Path: "/a", Len: 1, Time: -1}, {Path: "/a\x00", Len: 1}} {
		if err := (&profile.Profile{Entries: []profile.Entry{e}}).Write(io.Discard); err == nil || !strings.Contains(err.Error(), "entry 0") {
			t.Errorf("%+v: %v", e, err)
		}
	}
	broken := errors.New("broken pipe")
	if err := sample.Write(brokenWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// FuzzRead reads anything. What is accepted must survive being written.
func FuzzRead(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte("pagein profile 1\n# x\n\n5 6 7 \"/\\u00e4\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := profile.Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := profile.Read(&b)
		if err != nil || !slices.Equal(again.Entries, p.Entries) {
			t.Fatalf("read %+v, then %+v, %v", p, again, err)
		}
	})
}
