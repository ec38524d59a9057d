package mkfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// maxContexts bounds the lines of a file_contexts file. Reference policies have some 6,000.
const maxContexts = 1 << 20

// fileContexts is a [Labeler] made from a file_contexts file.
type fileContexts struct {
	specs []contextSpec // the later one wins
}

// contextSpec is one line of a file_contexts file.
type contextSpec struct {
	prefix  string // of all paths that match
	pattern *regexp.Regexp
	kind    uint32 // file type as in st_mode, 0 for all types
	label   string // "" for <<none>>
}

// ReadFileContexts reads a file in the format of file_contexts(5), as SELinux policies have it: lines of a regular expression for whole paths, a file type
// such as -d where that matters, and a label or <<none>>. The last line that matches a path decides, except that lines without wildcards go
// before all others, as in libselinux. Expressions are those of Go's regexp package, which lack only PCRE's look-around and back-references.
// Files that libselinux reads beside the given one (.local, .homedirs, .subs) are not read.
func ReadFileContexts(r io.Reader) (Labeler, error) {
	var wild, exact []contextSpec
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		spec, err := parseContext(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if n > maxContexts {
			return nil, fmt.Errorf("more than %d lines", maxContexts)
		}
		if hasWildcards(fields[0]) {
			wild = append(wild, spec)
		} else {
			exact = append(exact, spec)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return &fileContexts{append(wild, exact...)}, nil
}

func parseContext(fields []string) (s contextSpec, err error) {
	if len(fields) < 2 || len(fields) > 3 {
		return s, fmt.Errorf("%d fields: want a pattern, perhaps a file type, and a label", len(fields))
	}
	if len(fields) == 3 {
		if s.kind, err = contextKind(fields[1]); err != nil {
			return s, err
		}
	}
	if label := fields[len(fields)-1]; label != "<<none>>" {
		s.label = label
	}
	plain, err := regexp.Compile("(?s)" + fields[0])
	if err != nil {
		return s, err
	}
	s.prefix, _ = plain.LiteralPrefix()
	s.pattern, err = regexp.Compile("(?s)^(?:" + fields[0] + ")$")
	return s, err
}

var errContextKind = errors.New("want one of --, -d, -l, -c, -b, -p, -s")

func contextKind(field string) (uint32, error) {
	switch field {
	case "--":
		return unix.S_IFREG, nil
	case "-d":
		return unix.S_IFDIR, nil
	case "-l":
		return unix.S_IFLNK, nil
	case "-c":
		return unix.S_IFCHR, nil
	case "-b":
		return unix.S_IFBLK, nil
	case "-p":
		return unix.S_IFIFO, nil
	case "-s":
		return unix.S_IFSOCK, nil
	}
	return 0, fmt.Errorf("file type %q: %w", field, errContextKind)
}

// hasWildcards reports whether a pattern matches more than one path.
func hasWildcards(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '.', '^', '$', '?', '*', '+', '|', '[', '(', '{':
			return true
		}
	}
	return false
}

// Label implements [Labeler].
func (c *fileContexts) Label(path string, mode uint32) (label string, ok bool) {
	for i := len(c.specs) - 1; i >= 0; i-- {
		s := &c.specs[i]
		if s.kind != 0 && s.kind != mode&unix.S_IFMT || !strings.HasPrefix(path, s.prefix) || !s.pattern.MatchString(path) {
			continue
		}
		return s.label, s.label != ""
	}
	return "", false
}
