package treetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSameSeedGivesEqualTrees(t *testing.T) {
	for seed := range int64(3) {
		a, b := t.TempDir(), t.TempDir()
		Random(t, a, seed)
		Random(t, b, seed)
		Compare(t, a, b)
		CompareWith(t, a, b, Options{Readers: 4, Shuffle: 7})
	}
}

func TestEveryKindOfDifferenceIsSeen(t *testing.T) {
	tests := map[string]struct {
		change func(dir string) error
		want   string
	}{
		"content":  {func(d string) error { return replaceKeepingTime(filepath.Join(d, "f"), "Hello") }, "content differs at byte 0"},
		"size":     {func(d string) error { return replaceKeepingTime(filepath.Join(d, "f"), "hello!") }, "size 6, want 5"},
		"mode":     {func(d string) error { return os.Chmod(filepath.Join(d, "f"), 0o600) }, "mode"},
		"mtime":    {func(d string) error { return setTime(filepath.Join(d, "f"), 5, 6) }, "mtime 5.000000006"},
		"target":   {func(d string) error { os.Remove(filepath.Join(d, "l")); return link(d, "other") }, `target "other"`},
		"missing":  {func(d string) error { return os.Remove(filepath.Join(d, "h")) }, "missing"},
		"extra":    {func(d string) error { return os.WriteFile(filepath.Join(d, "z"), nil, 0o600) }, "unexpected"},
		"unlinked": {func(d string) error { os.Remove(filepath.Join(d, "h")); return plain(d, "h") }, `is a link of "h", want of "f"`},
		"xattr":    {func(d string) error { return unix.Setxattr(filepath.Join(d, "f"), "user.a", []byte("2"), 0) }, "xattr user.a"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := t.TempDir(), t.TempDir()
			for _, d := range []string{a, b} {
				if err := sample(d); err != nil {
					t.Fatal(err)
				}
			}
			Compare(t, a, b)
			if err := tc.change(b); err != nil {
				t.Fatal(err)
			}
			diffs, err := Diff(a, b, Options{IgnoreRoot: true})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(diffs, "\n"), tc.want) {
				t.Fatalf("got %q, want a line with %q", diffs, tc.want)
			}
		})
	}
}

// sample makes a file f with an attribute, a hard link h of it and a symbolic link l, all with fixed times.
func sample(dir string) error {
	if err := plain(dir, "f"); err != nil {
		return err
	}
	if err := unix.Setxattr(filepath.Join(dir, "f"), "user.a", []byte("1"), 0); err != nil {
		return err
	}
	if err := os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "h")); err != nil {
		return err
	}
	if err := link(dir, "f"); err != nil {
		return err
	}
	return setTime(dir, 1, 0)
}

func plain(dir, name string) error {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("hello"), 0o644); err != nil {
		return err
	}
	return setTime(path, 1, 0)
}

func link(dir, target string) error {
	path := filepath.Join(dir, "l")
	if err := os.Symlink(target, path); err != nil {
		return err
	}
	return setTime(path, 1, 0)
}

func replaceKeepingTime(path, data string) error {
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		return err
	}
	return setTime(path, 1, 0)
}

func setTime(path string, sec, nsec int64) error {
	ts := unix.Timespec{Sec: sec, Nsec: nsec}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
