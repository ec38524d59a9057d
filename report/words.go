package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// maxShown is how many bytes of a name or an error are shown at most.
const maxShown = 1000

// Printable is a name as it can be shown anywhere: what is no printable character, and bytes that are no character at all, are escaped as in Go. So no name moves a terminal's cursor or
// turns the direction of a line around.
func Printable(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown/2] + "…" + s[len(s)-maxShown/2:]
	}
	plain := utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return !strconv.IsPrint(c) || c == '\\' }) < 0
	if plain {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// Name is a file's name for people.
func (u Used) Name() string { return fileName(u.Path) }

// Name is the name of the file for people.
func (m Miss) Name() string { return fileName(m.Path) }

func fileName(path string) string {
	if path == "" {
		return "(no file that is known)"
	}
	return Printable(path)
}

func bytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func rate(perSecond float64) string { return fmt.Sprintf("%.4g Mbit/s", perSecond*8/1e6) }

// seconds words a time with three digits.
func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + seconds(-d)
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", d.Seconds()*1e3)
	case d < time.Minute:
		return fmt.Sprintf("%.3g s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return humanize.Comma(int64(n)) + " " + many
}

func percent[T int | int64 | time.Duration](part, whole T) string {
	if whole <= 0 {
		return "0 %"
	}
	p := 100 * float64(part) / float64(whole)
	if p > 0 && p < 1 {
		return "< 1 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}
