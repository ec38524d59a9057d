package profile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pagein/pagein/profile"
)

// golden is a profile as text, and sample the same as values.
const golden = `pagein profile 1
subject sha256:6c3c
runs 3
ready 812000
0 0 1 r 3 8c1a0ab3a4b1f2e07d7ac8f3b9ce2f10 6831704 "/usr/bin/python3"
1520 32 32 f 1 - 0
1520 0 1 a 2 - 0 "/with \"quotes\", \n and \xff bytes"
3600000000000 281474976710655 1 m 1 - 3 "/ä/日"
1520 96 16 f 2 - 1
`

var digest = profile.Digest{0x8c, 0x1a, 0x0a, 0xb3, 0xa4, 0xb1, 0xf2, 0xe0, 0x7d, 0x7a, 0xc8, 0xf3, 0xb9, 0xce, 0x2f, 0x10}

func sample() profile.Profile {
	const us = time.Microsecond
	return profile.Profile{
		Subject: "sha256:6c3c", Runs: 3, Ready: 812 * time.Millisecond,
		Entries: []profile.Entry{
			{Path: "/usr/bin/python3", Size: 6831704, Len: 4096, Runs: 3, Digest: digest},
			{Path: "/usr/bin/python3", Size: 6831704, Off: 131072, Len: 131072, Time: 1520 * us, Kind: profile.KindFault, Runs: 1},
			{Path: "/with \"quotes\", \n and \xff bytes", Len: 4096, Time: 1520 * us, Kind: profile.KindAround, Runs: 2},
			{Path: "/ä/日", Size: 3, Off: 1<<60 - 4096, Len: 4096, Time: 1000 * time.Hour, Kind: profile.KindMiss, Runs: 1},
			{Path: "/with \"quotes\", \n and \xff bytes", Off: 96 * 4096, Len: 16 * 4096, Time: 1520 * us, Kind: profile.KindFault, Runs: 2},
		},
	}
}

func same(a, b *profile.Profile) bool {
	return a.Subject == b.Subject && a.Runs == b.Runs && a.Ready == b.Ready && slices.Equal(a.Entries, b.Entries)
}

func TestProfilesSurviveTheirText(t *testing.T) {
	want := sample()
	var b, packed bytes.Buffer
	if err := want.Write(&b); err != nil || b.String() != golden {
		t.Errorf("wrote %s, %v", b.String(), err)
	}
	if err := want.WriteCompressed(&packed); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"plain": golden, "zstd": packed.String()} {
		got, err := profile.Read(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil || !same(got, &want) {
			t.Errorf("%s: read %+v, %v", name, got, err)
		}
	}
}

func TestCommentsAndEmptyLinesMeanNothing(t *testing.T) {
	want := sample()
	text := strings.Replace(golden, "\n", "\n# recorded on a Monday\n\n", 2)
	got, err := profile.Read(strings.NewReader(strings.TrimSuffix(text, "\n")))
	if err != nil || !same(got, &want) {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestWhatIsNoProfileIsRefusedWithTheReason(t *testing.T) {
	const head = "pagein profile 1\n"
	for name, c := range map[string]struct{ text, says string }{
		"empty":               {"", "empty"},
		"something else":      {"hello\n", "line 1: it is no profile"},
		"newer":               {"pagein profile 2\n", `version "2" is unknown`},
		"comment first":       {"# x\n" + head, "line 1"},
		"broken zstd":         {"\x28\xb5\x2f\xfdxxxxxxxxxxxx", ""},
		"unknown header":      {head + "colour red\n", "unknown here"},
		"header twice":        {head + "runs 1\nruns 1\n", "was there before"},
		"header too late":     {head + "0 0 1 r 1 - 1 \"/a\"\nruns 1\n", "unknown here"},
		"no runs":             {head + "runs 0x\n", "runs"},
		"absurd runs":         {head + "runs 99999999\n", "runs"},
		"odd subject":         {head + "subject a b\n", "subject"},
		"too few fields":      {head + "0 0 1\n", "nothing behind the number of pages"},
		"only a number":       {head + "0\n", "nothing behind the time"},
		"negative":            {head + "0 -1 1 r 1 - 1 \"/a\"\n", "the page"},
		"plus":                {head + "+1 0 1 r 1 - 1 \"/a\"\n", "the time"},
		"leading zero":        {head + "0 00 1 r 1 - 1 \"/a\"\n", "the page"},
		"too late":            {head + "3600000000001 0 1 r 1 - 1 \"/a\"\n", "the time"},
		"too far":             {head + "0 281474976710656 1 r 1 - 1 \"/a\"\n", "the length"},
		"absurd page":         {head + "0 281474976710657 1 r 1 - 1 \"/a\"\n", "the page"},
		"no pages":            {head + "0 0 0 r 1 - 1 \"/a\"\n", "the length 0"},
		"overflow":            {head + "0 2 281474976710656 r 1 - 1 \"/a\"\n", "the length"},
		"two spaces":          {head + "0  0 1 r 1 - 1 \"/a\"\n", "the page"},
		"unknown kind":        {head + "0 0 1 x 1 - 1 \"/a\"\n", "the kind"},
		"two kinds":           {head + "0 0 1 rf 1 - 1 \"/a\"\n", "the kind"},
		"more runs than all":  {head + "runs 2\n0 0 1 r 3 - 1 \"/a\"\n", "in 3 runs of 2"},
		"in no run":           {head + "0 0 1 r 0 - 1 \"/a\"\n", "the runs"},
		"short digest":        {head + "0 0 1 r 1 8c 1 \"/a\"\n", "the digest"},
		"zero digest":         {head + "0 0 1 r 1 00000000000000000000000000000000 1 \"/a\"\n", "the digest"},
		"upper-case digest":   {head + "0 0 1 r 1 8C1a0ab3a4b1f2e07d7ac8f3b9ce2f10 1 \"/a\"\n", "the digest"},
		"unnamed file":        {head + "0 0 1 r 1 - 0\n", "file 0 was not named"},
		"named again":         {head + "0 0 1 r 1 - 1 \"/a\"\n0 1 1 r 1 - 1 \"/a\"\n", "that of file 0"},
		"no quotes":           {head + "0 0 1 r 1 - 1 /a\n", "double quotes"},
		"other quotes":        {head + "0 0 1 r 1 - 1 `/a`\n", "double quotes"},
		"open quotes":         {head + "0 0 1 r 1 - 1 \"/a\n", "not quoted"},
		"more behind it":      {head + "0 0 1 r 1 - 1 \"/a\" x\n", "not quoted"},
		"absurd size":         {head + "0 0 1 r 1 - 1152921504606846976 \"/a\"\n", "the file"},
		"relative":            {head + "0 0 1 r 1 - 1 \"a\"\n", "does not begin"},
		"the top":             {head + "0 0 1 r 1 - 1 \"/\"\n", "nothing behind it"},
		"leads out":           {head + "0 0 1 r 1 - 1 \"/a/../b\"\n", `component ".."`},
		"ends in a slash":     {head + "0 0 1 r 1 - 1 \"/a/\"\n", `component ""`},
		"NUL":                 {head + "0 0 1 r 1 - 1 \"/a\\x00\"\n", "NUL"},
		"long path":           {head + "0 0 1 r 1 - 1 \"/" + strings.Repeat("a", 4096) + "\"\n", "4097 bytes"},
		"long line":           {head + strings.Repeat("1", 1<<20), "line 2 has more than"},
		"second line is bad":  {head + "0 0 1 r 1 - 1 \"/a\"\nx\n", "line 3"},
		"too many entries":    {head + "0 0 1 r 1 - 1 \"/a\"\n" + strings.Repeat("0 0 1 r 1 - 0\n", profile.MaxEntries), "more than 262144 entries"},
		"one entry too many?": {head + "0 0 1 r 1 - 1 \"/a\"\n" + strings.Repeat("0 0 1 r 1 - 0\n", profile.MaxEntries-1) + "y\n", "line 262146"},
	} {
		if got, err := profile.Read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: read %d entries, %v", name, len(got.Entries), err)
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
	for _, e := range []profile.Entry{
		{}, {Path: "a", Len: 4096}, {Path: "/a"}, {Path: "/a", Len: 100}, {Path: "/a", Off: 1, Len: 4096}, {Path: "/a", Off: -4096, Len: 4096}, {Path: "/a", Len: 4096, Time: -1},
		{Path: "/a\x00", Len: 4096}, {Path: "/a", Len: 4096, Kind: 9}, {Path: "/a", Len: 4096, Runs: 2}, {Path: "/a", Len: 4096, Size: -1},
	} {
		if err := (&profile.Profile{Entries: []profile.Entry{e}}).Write(io.Discard); err == nil || !strings.Contains(err.Error(), "entry 0") {
			t.Errorf("%+v: %v", e, err)
		}
	}
	broken, p := errors.New("broken pipe"), sample()
	if err := p.Write(brokenWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if err := p.WriteCompressed(brokenWriter{broken}); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// TestFiveThousandFilesTakeLittle holds what artifacts carry to the size that was promised for 40 MB in 5,000 files.
func TestFiveThousandFilesTakeLittle(t *testing.T) {
	p := profile.Profile{}
	for i := range 5000 {
		d := profile.Digest{}
		for k := range d {
			d[k] = byte(i*7919>>(k%3) ^ k*i*31 + i>>7)
		}
		p.Entries = append(p.Entries, profile.Entry{
			Path: fmt.Sprintf("/usr/lib/python3.11/site-packages/pkg%d/module_%d.py", i/40, i), Size: int64(8000 + i%977), Len: 8192, Time: time.Duration(i*137) * time.Microsecond, Digest: d,
		})
	}
	var b bytes.Buffer
	if err := p.WriteCompressed(&b); err != nil || b.Len() > 300_000 {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
}

// FuzzRead reads anything. What is accepted must survive being written, and what is made of it must hold what it promises.
func FuzzRead(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte("pagein profile 1\n# x\n\n5 6 7 r 1 - 9 \"/\\u00e4\"\n7 5 3 f 1 - 0\n"))
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
		if err != nil || again.Subject != p.Subject || again.Ready != p.Ready || !slices.Equal(again.Entries, p.Entries) {
			t.Fatalf("read %+v, then %+v, %v", p, again, err)
		}
		checkDisjoint(t, p)
	})
}
