package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// section returns what a man page has between a heading and the next one.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(page, "\n.SH "+heading+"\n")
	if !ok {
		t.Fatalf("the man page has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n.SH ")
	return strings.ReplaceAll(text, `\-`, "-")
}

// tags are the bold words of the lines that name an option in a section of a man page.
func tags(text string) (all []string) {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if i > 0 && lines[i-1] == ".TP" {
			for _, m := range regexp.MustCompile(`\\fB([^\\]*)\\fR`).FindAllStringSubmatch(line, -1) {
				all = append(all, m[1])
			}
		}
	}
	return all
}

func TestManPageHelpAndParserNameTheSameOptions(t *testing.T) {
	var taken, refused, extended []string
	for _, o := range mkfsOptions() {
		if o.refused == "" {
			taken = append(taken, o.flag())
		} else {
			refused = append(refused, o.flag())
		}
	}
	for _, o := range mkfsExtendedOptions() {
		if o.refused == "" {
			extended = append(extended, o.name)
		} else {
			refused = append(refused, o.name)
		}
	}
	data, err := os.ReadFile("../../docs/man/mkfs.pagein.8")
	if err != nil {
		t.Fatal(err)
	}
	for heading, want := range map[string][]string{"OPTIONS": taken, "EXTENDED OPTIONS": extended, "REFUSED OPTIONS": refused} {
		if got := tags(section(t, string(data), heading)); !slices.Equal(got, want) {
			t.Errorf("%s of the man page: %q\nthe parser: %q", heading, got, want)
		}
	}
	status, help, _ := pagein(t, "pagein", "mkfs", "--help")
	if status != exitSuccess {
		t.Fatalf("--help: status %d", status)
	}
	list, rest, _ := strings.Cut(help, "\nOptions of mkfs.erofs that are refused")
	var shown []string
	for _, m := range regexp.MustCompile(`(?m)^   (--?[A-Za-z][a-z-]*)`).FindAllStringSubmatch(list, -1) {
		shown = append(shown, m[1])
	}
	if !slices.Equal(shown, taken) {
		t.Errorf("--help shows %q\nthe parser takes %q", shown, taken)
	}
	for _, name := range refused {
		if !strings.Contains(rest, " "+name+",") && !strings.Contains(rest, " "+name+"\n") {
			t.Errorf("--help does not name %s", name)
		}
	}
}

func TestEveryOptionOfMkfsErofsIsKnown(t *testing.T) {
	out, err := exec.Command(require.Tool(t, "mkfs.erofs"), "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^ *(?:--([a-z][a-z-]*)|-([A-Za-z]))`).FindAllStringSubmatch(string(out), -1)
	if len(names) < 15 {
		t.Fatalf("found only %d options in\n%s", len(names), out)
	}
	for _, m := range names {
		known := func(o mkfsOption) bool { return o.name == m[1]+m[2] }
		if !slices.ContainsFunc(mkfsOptions(), known) {
			t.Errorf("%q is neither taken nor refused", m[0])
		}
	}
}

func TestMkfsSaysWhyItRefusesAnOption(t *testing.T) {
	source, image := smallSource(t), filepath.Join(t.TempDir(), "image")
	for _, o := range mkfsOptions() {
		if o.refused == "" {
			continue
		}
		arg := o.flag()
		if len(o.name) > 1 && o.value != "" {
			arg += "=1"
		} else if o.value != "" {
			arg += "1"
		}
		status, _, stderr := pagein(t, "pagein", "mkfs", arg, image, source)
		if status != exitUsage || !strings.Contains(stderr, o.flag()+": "+o.refused) {
			t.Errorf("%s: status %d, %q", arg, status, stderr)
		}
	}
	for _, o := range mkfsExtendedOptions() {
		off, _, stderr := pagein(t, "pagein", "mkfs", "--quiet", "-E^"+o.name, image, source)
		if off != exitSuccess {
			t.Errorf("-E ^%s: status %d, %q", o.name, off, stderr)
		}
		want := exitSuccess
		if o.refused != "" {
			want = exitUsage
		}
		if on, _, stderr := pagein(t, "pagein", "mkfs", "--quiet", "-E", o.name, image, source); on != want || !strings.Contains(stderr, o.refused) {
			t.Errorf("-E %s: status %d, %q", o.name, on, stderr)
		}
	}
}
