package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// unknownKeys says which keys of a file pageind does not know, with the tables that they are in: what is appended to a file is in its last table, which nobody sees who appends it.
func unknownKeys(file []byte, missing *toml.StrictMissingError) string {
	var keys []string
	lines := bytes.Split(file, []byte("\n"))
	for _, e := range missing.Errors {
		path := e.Key()
		key, last := strings.Join(path, "."), path[len(path)-1]
		row, _ := e.Position()
		if len(path) > 1 && !startsTable(lines[row-1]) && slices.ContainsFunc(lines[:row-1], startsTable) && knownAtTop(last) {
			key += fmt.Sprintf(" (%s belongs above the first [section])", last)
		}
		keys = append(keys, key)
	}
	return strings.Join(keys, ", ") + "\n" + missing.String()
}

// startsTable reports whether a line is the [name] of a table.
func startsTable(line []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(line), []byte("[")) }

// knownAtTop reports whether a configuration has a value of that name in no table. A table, as which it is tried, is none.
func knownAtTop(key string) bool {
	var strict *toml.StrictMissingError
	err := toml.NewDecoder(strings.NewReader(strconv.Quote(key) + " = {}\n")).DisallowUnknownFields().Decode(new(config))
	return err != nil && !errors.As(err, &strict)
}
