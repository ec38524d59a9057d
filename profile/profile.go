// Package profile reads, writes and combines access profiles: what a workload touched of an image, in the order in which it touched it first.
//
// It knows the text that profiles are kept in and what follows from ranges alone, and nothing of how they are recorded or what is made of them. The idea to hold in mind:
// a profile names pages by path and by the digest of the data that they lie in, never by inode, so it says something of the image's next build too; and the order
// of the entries is what matters, so reading and writing keep it.
//
// A profile is text, and may be compressed with zstd. docs/format.md describes it:
//
//	pagein profile 1
//	subject sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b
//	runs 3
//	ready 812000
//	0 0 1 r 3 8c1a0ab3a4b1f2e07d7ac8f3b9ce2f10 6831704 "/usr/bin/python3.11"
//	1520 96 16 f 2 - 0
package profile

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// PageSize is what offsets and lengths are multiples of, in bytes: what kernels load and remember.
	PageSize = 4096
	// MaxSize is the most bytes of plain text that [Read] takes.
	MaxSize = 64 << 20
	// MaxEntries bounds the entries of a profile: pages of 1 GiB if no two of them lie together.
	MaxEntries = 1 << 18
	// MaxPath is the longest path in bytes: PATH_MAX of Linux.
	MaxPath = 4096
	// MaxRuns bounds how many recordings a profile sums up.
	MaxRuns = 1 << 20
	// maxTime bounds times, so that a few of them can be added.
	maxTime = 1000 * time.Hour
	// maxBytes bounds sizes, offsets, and the ends of ranges likewise: EROFS files end far below.
	maxBytes = 1 << 60
)

// Kind says how a page was touched.
type Kind uint8

// Kinds, the surest first.
const (
	KindRead   Kind = iota // by read(2) and its kin
	KindFault              // by a page fault
	KindAround             // the kernel mapped it as a neighbour of a page that was touched, and so it may have been touched unseen
	KindMiss               // the kernel asked for it, be it that somebody touched it or that it read ahead: nothing surer was to be had
)

// kinds has the letter of each.
const kinds = "rfam"

// String returns the letter that stands for the kind in a profile.
func (k Kind) String() string {
	if int(k) >= len(kinds) {
		return "?"
	}
	return kinds[k : k+1]
}

// Digest is the beginning of the SHA-256 of the data that a range lies in: of all blocks of a small file, or of the piece of 128 KiB of a larger one, as the artifact's blobs have it
// for a frame or a unit of its index. It survives rebuilds and renamings. The zero value stands for an unknown one. It is a hint and proves nothing.
type Digest [16]byte

// Entry is the first touch of a range of a file. All of a page counts, also the last of a file.
type Entry struct {
	Path   string        // in the image, from "/", any one of a file with hard links; clean: no empty, "." or ".." component; 2 to MaxPath bytes, without NUL
	Size   int64         // of the file, in bytes; 0 if it is not known
	Off    int64         // bytes, 0 or more, a multiple of PageSize
	Len    int64         // bytes, a positive multiple of PageSize; the range may end behind the file
	Time   time.Duration // since recording began, 0 or more; microseconds are kept
	Kind   Kind
	Runs   int    // in how many of the profile's runs it was touched; 0 means 1
	Digest Digest // of the data that all of the range lies in
}

// end is the first byte behind the range.
func (e *Entry) end() int64 { return e.Off + e.Len }

// Profile is what was touched, first touches first.
type Profile struct {
	Subject string        // digest of the manifest of the image that ran, "" if it is not known
	Runs    int           // how many recordings it sums up; 0 means 1
	Ready   time.Duration // from the beginning of the recording until the workload was ready, 0 if that is not known
	Entries []Entry
}

// runs is n, or 1 where nobody counted.
func runs(n int) int { return max(n, 1) }

// check refuses what no profile can say of itself.
func (p *Profile) check() error {
	switch {
	case strings.ContainsFunc(p.Subject, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || len(p.Subject) > 256:
		return fmt.Errorf("the subject %.80q is no digest", p.Subject)
	case p.Runs < 0 || p.Runs > MaxRuns:
		return fmt.Errorf("%d runs are not between 1 and %d", p.Runs, MaxRuns)
	case p.Ready < 0 || p.Ready > maxTime:
		return fmt.Errorf("the time until it was ready, %v, is not between 0 and %v", p.Ready, maxTime)
	case len(p.Entries) > MaxEntries:
		return fmt.Errorf("%d entries, at most %d are allowed", len(p.Entries), MaxEntries)
	}
	return nil
}

// check refuses what no entry of a profile of so many runs can be.
func (e *Entry) check(all int) error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.Size < 0 || e.Size > maxBytes:
		return fmt.Errorf("the file's size %d is not between 0 and %d", e.Size, int64(maxBytes))
	case e.Off < 0 || e.Off > maxBytes || e.Off%PageSize != 0:
		return fmt.Errorf("the offset %d is not a multiple of %d from 0 to %d", e.Off, PageSize, int64(maxBytes))
	case e.Len < 1 || e.Len > maxBytes-e.Off || e.Len%PageSize != 0:
		return fmt.Errorf("the length %d is not a positive multiple of %d that ends below %d", e.Len, PageSize, int64(maxBytes))
	case e.Time < 0 || e.Time > maxTime:
		return fmt.Errorf("the time %v is not between 0 and %v", e.Time, maxTime)
	case int(e.Kind) >= len(kinds):
		return fmt.Errorf("the kind %d is unknown", e.Kind)
	case e.Runs < 0 || runs(e.Runs) > all:
		return fmt.Errorf("it was touched in %d runs of %d", e.Runs, all)
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

// Totals says how many files, and how many bytes of them, whole pages, were touched, each page once.
func (p *Profile) Totals() (files int, bytes int64) {
	seen := make(map[string]bool)
	entries := p.Disjoint()
	for _, e := range entries {
		seen[e.Path] = true
	}
	return len(seen), Bytes(entries)
}
