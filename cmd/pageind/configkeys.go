package main

import (
	"bytes"
	"errors"
	"fmt"
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
		isTable := bytes.HasPrefix(bytes.TrimSpace(lines[row-1]), []byte("["))
		if len(path) > 1 && !isTable && knownAtTop(last) {
			key += fmt.Sprintf(" (%s belongs above the first [section])", last)
		}
		keys = append(keys, key)
	}
	return strings.Join(keys, ", ") + "\n" + missing.String()
}

// knownAtTop reports whether a configuration has a key that is in no table.
func knownAtTop(key string) bool {
	var strict *toml.StrictMissingError
	err := toml.NewDecoder(strings.NewReader(strconv.Quote(key) + " = 0\n")).DisallowUnknownFields().Decode(new(config))
	return !errors.As(err, &strict)
}
