package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/pagein/pagein/mkfs"
)

// exclusions say which files of a directory are left out.
type exclusions struct {
	paths    []*excludedPath
	patterns []*regexp.Regexp
}

// excludedPath is a path to leave out, and whether something had it.
type excludedPath struct {
	path string
	met  atomic.Bool
}

func (p *excludedPath) is(path string) bool {
	if p.path != path {
		return false
	}
	p.met.Store(true)
	return true
}

// unmet lists the paths that nothing had.
func (e *exclusions) unmet() (list []string) {
	for _, p := range e.paths {
		if !p.met.Load() {
			list = append(list, p.path)
		}
	}
	return list
}

// skip reports whether to leave out a path below the source.
func (e *exclusions) skip(path string) bool {
	return slices.ContainsFunc(e.paths, func(p *excludedPath) bool { return p.is(path) }) || slices.ContainsFunc(e.patterns, func(r *regexp.Regexp) bool { return r.MatchString(path) })
}

func (e *exclusions) empty() bool { return len(e.paths) == 0 && len(e.patterns) == 0 }

func setExcludePath(m *mkfsRun, value string) error {
	m.exclude.paths = append(m.exclude.paths, &excludedPath{path: strings.Trim(value, "/")})
	return nil
}

// setExcludeRegex takes the syntax of egrep, as mkfs.erofs does, with Go's implementation: it has no back-references.
func setExcludeRegex(m *mkfsRun, value string) error {
	r, err := regexp.CompilePOSIX(value)
	if err != nil {
		return err
	}
	m.exclude.patterns = append(m.exclude.patterns, r)
	return nil
}

func setFileContexts(m *mkfsRun, value string) error {
	f, err := os.Open(value)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	if m.image.Labels, err = mkfs.ReadFileContexts(f); err != nil {
		return fmt.Errorf("%s: %w", value, err)
	}
	return nil
}
