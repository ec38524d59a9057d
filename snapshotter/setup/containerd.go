package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/pagein/pagein/internal/tomledit"
)

// patience is how long containerd may take to read its configuration.
const patience = 30 * time.Second

// Containerd is an installed containerd.
type Containerd struct {
	Program string
	Config  string // absolute path; it need not be there
}

// table is a part of a configuration.
type table = map[string]any

// Installed lists the files that have something to be undone: containerd's configuration, and what it imports.
func (c Containerd) Installed() (changes []*Change, err error) {
	text, err := read(c.Config)
	if err != nil {
		return nil, err
	}
	for _, path := range append([]string{c.Config}, c.dropIns(text)...) {
		change, err := Undo(path)
		if err != nil {
			return nil, err
		}
		if tomledit.Has(change.Old) {
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// dropIns are the files of ours that a configuration would import, whether they are there or not. One of that name that somebody else wrote is none.
func (c Containerd) dropIns(text []byte) (paths []string) {
	for _, pattern := range c.patterns(text) {
		path := filepath.Join(filepath.Dir(pattern), dropIn)
		if matches, err := filepath.Match(pattern, path); matches && err == nil && pattern != path {
			info, err := os.Stat(filepath.Dir(path))
			if err != nil || !info.IsDir() {
				continue
			}
			if text, err := read(path); err == nil && (text == nil || tomledit.Has(text)) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// imports are the files that a configuration imports.
func (c Containerd) imports(text []byte) (paths []string, err error) {
	for _, pattern := range c.patterns(text) {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("imports of %s: %q: %w", c.Config, pattern, err)
		}
		paths = append(paths, matches...)
	}
	return paths, nil
}

// patterns are the absolute paths and patterns that a configuration imports. Of what is no configuration, containerd says more.
func (c Containerd) patterns(text []byte) (patterns []string) {
	var file struct {
		Imports []string `toml:"imports"`
	}
	if toml.Unmarshal(text, &file) != nil {
		return nil
	}
	for _, pattern := range file.Imports {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(c.Config), pattern)
		}
		patterns = append(patterns, filepath.Clean(pattern))
	}
	return patterns
}

// release is containerd's version.
type release struct{ major, minor int }

// atLeast compares.
func (r release) atLeast(major, minor int) bool {
	return r.major > major || r.major == major && r.minor >= minor
}

// release asks containerd for its version.
func (c Containerd) release(ctx context.Context) (r release, err error) {
	out, err := c.run(ctx, "--version")
	if err != nil {
		return r, err
	}
	for word := range strings.FieldsSeq(string(out)) { // "containerd github.com/containerd/containerd/v2 v2.4.2 COMMIT"
		major, rest, ok := strings.Cut(strings.TrimPrefix(word, "v"), ".")
		minor, _, more := strings.Cut(rest, ".")
		if r.major, err = strconv.Atoi(major); !ok || !more || err != nil {
			continue
		}
		if r.minor, err = strconv.Atoi(minor); err == nil {
			return r, nil
		}
	}
	return r, fmt.Errorf("%s --version says no version: %q", c.Program, out)
}

// defaults is containerd's configuration without a file.
func (c Containerd) defaults(ctx context.Context) (table, error) {
	return c.read(ctx, "config", "default")
}

// read reads a configuration that containerd prints.
func (c Containerd) read(ctx context.Context, args ...string) (table, error) {
	out, err := c.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	dump := table{}
	if err := toml.Unmarshal(out, &dump); err != nil {
		return nil, fmt.Errorf("read what %s %s prints: %w", c.Program, strings.Join(args, " "), err)
	}
	return dump, nil
}

// dumpOf is what containerd would make of a configuration with this text.
func (c Containerd) dumpOf(ctx context.Context, text []byte) (table, error) {
	dir := filepath.Dir(c.Config) // imports may be relative
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		dir = ""
	}
	f, err := os.CreateTemp(dir, ".pagein-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // it is in nobody's way
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return c.read(ctx, "--config", f.Name(), "config", "dump")
}

// run runs containerd for what it prints.
func (c Containerd) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Program, args...) // #nosec G204 -- what the operator names
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		// Its exit status must not become that of the program that runs it.
		return nil, fmt.Errorf("%s %s: %s: %s", c.Program, strings.Join(args, " "), err.Error(), bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
