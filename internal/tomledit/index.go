package tomledit

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// places are where a file has what, before it is edited.
type places struct {
	keys   []place
	tables []place // without those of arrays, which are none of ours
}

// place is a key with a value, or a table's header.
type place struct {
	path        []string
	first, last int // lines, from 0
}

// index finds all keys and tables.
func index(text []byte) (*places, error) {
	var (
		x       places
		parser  unstable.Parser
		current []string // table
		inArray bool
	)
	line := func(offset uint32) int { return bytes.Count(text[:offset], []byte("\n")) }
	parser.Reset(text)
	for parser.NextExpression() {
		node := parser.Expression()
		if node.Kind == unstable.Comment {
			continue
		}
		var path []string
		at, names := -1, node.Key()
		for names.Next() {
			path = append(path, string(names.Node().Data))
			if at < 0 {
				at = line(names.Node().Raw.Offset)
			}
		}
		switch node.Kind {
		case unstable.Table:
			current, inArray = path, false
			x.tables = append(x.tables, place{path, at, at})
		case unstable.ArrayTable:
			current, inArray = path, true
		case unstable.KeyValue:
			if !inArray {
				x.keys = append(x.keys, place{append(slices.Clone(current), path...), at, line(node.Raw.Offset + node.Raw.Length)})
			}
		}
	}
	if err := parser.Error(); err != nil {
		return nil, fmt.Errorf("read TOML: %w", err)
	}
	return &x, nil
}

// set exchanges or adds a line, and reports whether the file has a place for it.
func (x *places) set(lines []string, s Setting) (done bool, err error) {
	path := append(slices.Clone(s.Table), s.Key)
	for _, k := range x.keys {
		if len(k.path) <= len(path) && slices.Equal(k.path, path[:len(k.path)]) {
			if len(k.path) < len(path) || k.first != k.last {
				return false, fmt.Errorf("line %d has %s in a form that is not changed here: write it as a table with one key in each line", k.first+1, name(k.path))
			}
			lines[k.first] = exchange(lines[k.first], s)
			return true, nil
		}
	}
	if len(s.Table) == 0 {
		lines[0] = written(s) + added + "\n" + lines[0]
		return true, nil
	}
	for _, t := range x.tables {
		if slices.Equal(t.path, s.Table) {
			body := strings.TrimRight(lines[t.first], "\r\n")
			indent := body[:len(body)-len(strings.TrimLeft(body, " \t"))]
			lines[t.last] += indent + written(s) + added + "\n"
			return true, nil
		}
	}
	return false, nil
}

// exchange returns the lines that take the place of one.
func exchange(line string, s Setting) string {
	body := strings.TrimRight(line, "\r\n")
	plain := strings.TrimLeft(body, " \t")
	indent := body[:len(body)-len(plain)]
	key := strings.TrimRight(plain[:strings.Index(plain, "=")], " \t") // a dotted one stays as it is
	return indent + instead + plain + "\n" + indent + key + " = " + s.Value + changed + line[len(body):]
}

func written(s Setting) string { return name([]string{s.Key}) + " = " + s.Value }

var bare = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// name writes the path of a table or key.
func name(path []string) string {
	quoted := make([]string, len(path))
	for i, p := range path {
		if quoted[i] = p; !bare.MatchString(p) {
			quoted[i] = strconv.Quote(p)
		}
	}
	return strings.Join(quoted, ".")
}
