// Package profile reads and writes access profiles: what a workload read of an image, in the order in which it touched it first.
//
// It knows the text that profiles are kept in, and nothing of how they are recorded or what is made of them. The idea to hold in mind: the order of
// the entries is what matters, so reading and writing keep it; times are for people and for pictures.
//
// A profile is text. The first line is
//
//	pagein profile 1
//
// and each further line is one entry: when it was touched, in nanoseconds since recording began, the offset and the length of the range in the file, both in
// bytes, and the path in the image, quoted as in Go so that it may hold any bytes:
//
//	1520000 0 131072 "/usr/bin/python3"
//
// Fields are separated by one space, and numbers are decimal. Empty lines and lines that begin with "#" mean nothing.
package profile

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	// MaxSize is the most bytes of text that [Read] takes, which is more than a million entries.
	MaxSize = 64 << 20
	// MaxPath is the longest path in bytes: PATH_MAX of Linux.
	MaxPath = 4096
)

// The first line.
const (
	magic   = "pagein profile "
	version = "1"
)

// Entry is the first touch of a range of a file.
type Entry struct {
	Path string        // in the image, from "/"; clean: no empty, "." or ".." component; 2 to MaxPath bytes, without NUL
	Off  int64         // bytes, 0 or more
	Len  int64         // bytes, 1 or more; the range may end behind the file
	Time time.Duration // since recording began, 0 or more
}

// Profile is what was touched, first touches first.
type Profile struct {
	Entries []Entry
}

// check refuses what no entry can be.
func (e *Entry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.Off < 0:
		return fmt.Errorf("the offset %d is negative", e.Off)
	case e.Len < 1 || e.Len > math.MaxInt64-e.Off:
		return fmt.Errorf("the length %d is not between 1 and what lies behind the offset", e.Len)
	case e.Time < 0:
		return fmt.Errorf("the time %d is negative", e.Time)
	}
	return nil
}

func checkPath(path string) error {
	switch {
	case len(path) < 2 || path[0] != '/':
		return errors.New(`the path does not begin with "/", or has nothing behind it`)
	case len(path) > MaxPath:
		return fmt.Errorf("the path has %d bytes: Linux allows %d", len(path), MaxPath)
	case strings.IndexByte(path, 0) >= 0:
		return errors.New("the path contains a NUL byte")
	}
	for part := range strings.SplitSeq(path[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("the path has a component %q", part)
		}
	}
	return nil
}
