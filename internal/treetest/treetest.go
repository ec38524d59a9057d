// Package treetest makes random file trees and compares trees on disk, so that every room can ask the same question: is what the kernel
// shows equal to the source, byte for byte and attribute for attribute?
//
// It knows nothing of EROFS: both sides are plain directories, read with system calls that follow no symbolic link.
package treetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// maxReported bounds the differences that one failed comparison prints.
const maxReported = 20

// Options change what is compared. The zero value compares everything, one file after the other in directory order.
type Options struct {
	// IgnoreOwner leaves out uid and gid.
	IgnoreOwner bool
	// IgnoreRoot leaves out the attributes of the top directory itself.
	IgnoreRoot bool
	// IgnoreDirTimes leaves out modification times of directories.
	IgnoreDirTimes bool
	// Readers is how many goroutines compare file contents at the same time; 0 means 1.
	Readers int
	// Shuffle, when not 0, is the seed by which pieces of all files are read in random order.
	Shuffle int64
}

// Compare fails the test with a list of differences unless the tree at got equals the tree at want: names, types, permissions, owners,
// sizes, modification times to the nanosecond, extended attributes, hard-link structure, device numbers, symbolic link targets, contents.
// Sockets in want are passed over, as no image holds them.
func Compare(t testing.TB, want, got string) {
	t.Helper()
	CompareWith(t, want, got, Options{})
}

// CompareWith is [Compare] with options.
func CompareWith(t testing.TB, want, got string, o Options) {
	t.Helper()
	diffs, err := Diff(want, got, o)
	if err != nil {
		t.Fatalf("compare %s with %s: %v", want, got, err)
	}
	if len(diffs) == 0 {
		return
	}
	shown := diffs
	if len(shown) > maxReported {
		shown = shown[:maxReported]
	}
	t.Fatalf("%s differs from %s in %d points:\n%s", got, want, len(diffs), strings.Join(shown, "\n"))
}

// Diff returns one line for every difference between two trees.
func Diff(want, got string, o Options) ([]string, error) {
	a, err := scan(want)
	if err != nil {
		return nil, err
	}
	b, err := scan(got)
	if err != nil {
		return nil, err
	}
	var diffs []string
	add := func(path, format string, args ...any) {
		diffs = append(diffs, fmt.Sprintf("%q: ", path)+fmt.Sprintf(format, args...))
	}
	var pieces []piece
	for _, path := range a.paths {
		x := a.nodes[path]
		y, ok := b.nodes[path]
		if !ok {
			add(path, "missing")
			continue
		}
		diffNode(path, x, y, o, add)
		regular := x.mode&unix.S_IFMT == unix.S_IFREG && y.mode&unix.S_IFMT == unix.S_IFREG
		if regular && x.size == y.size && x.firstLink == path {
			pieces = appendPieces(pieces, path, x.size)
		}
	}
	for _, path := range b.paths {
		if _, ok := a.nodes[path]; !ok {
			add(path, "unexpected")
		}
	}
	more, err := diffContents(want, got, pieces, o)
	return append(diffs, more...), err
}

// diffNode reports every attribute in which two files of the same path differ.
func diffNode(path string, x, y *node, o Options, add func(path, format string, args ...any)) {
	if path == "." && o.IgnoreRoot {
		return
	}
	isDir := x.mode&unix.S_IFMT == unix.S_IFDIR
	if x.mode != y.mode {
		add(path, "mode %#o, want %#o", y.mode, x.mode)
	}
	if !o.IgnoreOwner && (x.uid != y.uid || x.gid != y.gid) {
		add(path, "owner %d:%d, want %d:%d", y.uid, y.gid, x.uid, x.gid)
	}
	if !isDir && x.size != y.size {
		add(path, "size %d, want %d", y.size, x.size)
	}
	if x.mtime != y.mtime && !(isDir && o.IgnoreDirTimes) {
		add(path, "mtime %d.%09d, want %d.%09d", y.mtime.Sec, y.mtime.Nsec, x.mtime.Sec, x.mtime.Nsec)
	}
	if x.rdev != y.rdev {
		add(path, "device number %#x, want %#x", y.rdev, x.rdev)
	}
	if x.target != y.target {
		add(path, "target %q, want %q", y.target, x.target)
	}
	if x.firstLink != y.firstLink {
		add(path, "is a link of %q, want of %q", y.firstLink, x.firstLink)
	}
	for name, value := range x.xattrs {
		if other, ok := y.xattrs[name]; !ok {
			add(path, "xattr %s missing", name)
		} else if other != value {
			add(path, "xattr %s is %q, want %q", name, other, value)
		}
	}
	for name := range y.xattrs {
		if _, ok := x.xattrs[name]; !ok {
			add(path, "xattr %s unexpected", name)
		}
	}
}

// errDiffers ends the comparison of one piece at its first difference.
var errDiffers = errors.New("differs")
