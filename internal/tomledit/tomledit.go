// Package tomledit changes settings in a TOML file that somebody else wrote, and takes its changes out again.
//
// It knows TOML, and nothing of what the settings mean. The one idea to hold in mind: the file is its owner's. Lines that are not changed stay byte for byte what they are, each change
// bears a mark that says what was there before, and [Undo] needs nothing but the marks: it gives back the file as it was, also after the owner changed other lines.
package tomledit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// The marks. All are comments, or end a line as one.
const (
	mark      = "# pagein: "
	begin     = mark + "begin"
	end       = mark + "end"
	instead   = mark + "instead of: "
	changed   = " " + mark + "changed"
	added     = " " + mark + "added"
	noNewline = mark + "the line above did not end"
)

// Setting is a value that a file is to have.
type Setting struct {
	Table []string // path of the table, whose names are written without quotes here; empty for the file's own
	Key   string
	Value string // as TOML has it, on one line
}

// Edit is what a file is to have.
type Edit struct {
	Settings []Setting
	Header   string // keys of the file's own table, for a file with nothing else
	Block    string // more tables, which must not be in the file
}

// Apply returns the text with an edit, which replaces an earlier one. Where the file has a key the line is exchanged, where it has the table a line is added, and everything else is put at
// the end. It fails if a setting is written in a way that cannot be changed line by line, or if the result were no TOML.
func Apply(text []byte, e Edit) ([]byte, error) {
	text, err := Undo(text)
	if err != nil {
		return nil, err
	}
	if err := toml.Unmarshal(text, new(map[string]any)); err != nil {
		return nil, fmt.Errorf("read TOML: %w", err)
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text[:len(text):len(text)], "\n"+noNewline+"\n"...)
	}
	x, err := index(text)
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(text), "\n")
	var left []Setting
	for _, s := range e.Settings {
		done, err := x.set(lines, s)
		if err != nil {
			return nil, err
		}
		if !done {
			left = append(left, s)
		}
	}
	out := strings.Join(lines, "")
	if rest := e.Header + tables(left) + e.Block; rest != "" {
		out += begin + "\n" + rest + end + "\n"
	}
	if err := toml.Unmarshal([]byte(out), new(map[string]any)); err != nil {
		return nil, fmt.Errorf("it would be no TOML any more: %w", err)
	}
	return []byte(out), nil
}

// tables writes settings of tables that a file does not have.
func tables(settings []Setting) (text string) {
	for i, s := range settings {
		first := slices.IndexFunc(settings, func(other Setting) bool { return slices.Equal(other.Table, s.Table) })
		if first < i {
			continue // written with that one
		}
		text += "[" + name(s.Table) + "]\n"
		for _, other := range settings[i:] {
			if slices.Equal(other.Table, s.Table) {
				text += written(other) + "\n"
			}
		}
	}
	return text
}

// Undo takes out what Apply has put in. A line that somebody changed after Apply had stays.
func Undo(text []byte) ([]byte, error) {
	var out []byte
	unended := 0 // bytes, up to where the file did not end its last line
	lines := strings.SplitAfter(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		body := strings.TrimRight(lines[i], "\r\n")
		plain := strings.TrimLeft(body, " \t")
		was, exchanged := strings.CutPrefix(plain, instead)
		switch {
		case plain == noNewline:
			unended = len(out)
		case plain == begin:
			for i++; strings.TrimSpace(lines[min(i, len(lines)-1)]) != end; i++ {
				if i >= len(lines)-1 {
					return nil, fmt.Errorf("there is a line %q, and no %q after it", begin, end)
				}
			}
		case strings.HasSuffix(body, added):
		case exchanged && i+1 < len(lines) && strings.HasSuffix(strings.TrimRight(lines[i+1], "\r\n"), changed):
			i++
			indent, ending := body[:len(body)-len(plain)], lines[i][len(strings.TrimRight(lines[i], "\r\n")):]
			out = append(out, indent+was+ending...)
		case exchanged: // of a line that somebody has changed meanwhile
		default:
			out = append(out, strings.TrimSuffix(body, changed)...)
			out = append(out, lines[i][len(body):]...)
		}
	}
	if unended == len(out) { // else somebody has added lines after that one
		out = bytes.TrimSuffix(out, []byte("\n"))
	}
	return out, nil
}

// Has reports whether there is something to be undone.
func Has(text []byte) bool {
	undone, err := Undo(text)
	return err != nil || !bytes.Equal(undone, text)
}

// Line is one of a text, without its end.
type Line struct {
	Number int // from 1
	Text   string
}

// Marked are the lines of an edit in a text, to be shown to people.
func Marked(text []byte) (lines []Line) {
	inBlock, exchanged := false, false
	for i, line := range strings.Split(string(text), "\n") {
		body := strings.TrimSpace(line)
		inBlock = inBlock || body == begin
		if inBlock || exchanged || strings.HasPrefix(body, instead) || strings.HasSuffix(body, added) {
			lines = append(lines, Line{i + 1, strings.TrimRight(line, "\r")})
		}
		exchanged = strings.HasPrefix(body, instead)
		inBlock = inBlock && body != end
	}
	return lines
}
