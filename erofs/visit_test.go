package erofs

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestVisitSeesEveryNameOnceAndInOrder(t *testing.T) {
	root, err := handleImage(t).Root()
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	v := Visitor{
		Enter: func(path string, depth int, e Entry, h Handle, err error) error {
			if err != nil || e.Ino != h.Stat().Ino || e.Path().String() != path {
				t.Errorf("%s: inode %d, path %s: %v", path, e.Ino, e.Path(), err)
			}
			seen = append(seen, fmt.Sprint(depth, " ", path))
			return nil
		},
		Leave: func(path string, _ Handle) error {
			seen = append(seen, "leave "+path)
			return nil
		},
	}
	if err := Visit(root, v); err != nil {
		t.Fatal(err)
	}
	want := []string{"0 .", "1 dir", "2 dir/file", "2 dir/hard", "leave dir", "1 link", "1 loop", "leave ."}
	if !slices.Equal(seen, want) {
		t.Errorf("saw %q, want %q", seen, want)
	}
	seen = nil
	enter := v.Enter
	v.Enter = func(path string, depth int, e Entry, h Handle, err error) error {
		if err := enter(path, depth, e, h, err); err != nil {
			return err
		}
		if path == "dir" {
			return fs.SkipDir
		}
		return nil
	}
	if err := Visit(root, v); err != nil || !slices.Equal(seen, []string{"0 .", "1 dir", "1 link", "1 loop", "leave ."}) {
		t.Errorf("saw %q after skipping a directory: %v", seen, err)
	}
}

func TestVisitOfADeepTreeEnds(t *testing.T) {
	for name, depth := range map[string]int{"d": maxDepth + 1, strings.Repeat("d", 255): maxPath/256 + 1} {
		dir := &Inode{Mode: unix.S_IFDIR | 0o755}
		for range depth {
			dir = &Inode{Mode: unix.S_IFDIR | 0o755, Entries: []Dirent{{name, dir}}}
		}
		var img memory
		stats, err := Write(&img, dir, WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		fsys, err := Open(bytes.NewReader(img.b), stats.Size)
		if err != nil {
			t.Fatal(err)
		}
		root, err := fsys.Root()
		if err != nil {
			t.Fatal(err)
		}
		nothing := func(string, int, Entry, Handle, error) error { return nil }
		if err := Visit(root, Visitor{Enter: nothing}); err == nil || !strings.Contains(err.Error(), " more than ") {
			t.Errorf("%d directories: error is %v, want one about the depth", depth, err)
		}
	}
}
