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

// TestVisitOfSharedDirectoriesEnds has 200 directories whose inodes lead to the same blocks.
func TestVisitOfSharedDirectoriesEnds(t *testing.T) {
	file := &Inode{Mode: unix.S_IFREG}
	full := &Inode{Mode: unix.S_IFDIR | 0o755}
	for i := range 1000 {
		full.Entries = append(full.Entries, Dirent{fmt.Sprint("file", i), file})
	}
	root := &Inode{Mode: unix.S_IFDIR | 0o755, Entries: []Dirent{{"full", full}}}
	for i := range 200 {
		root.Entries = append(root.Entries, Dirent{fmt.Sprint("other", i), &Inode{Mode: unix.S_IFDIR | 0o755}})
	}
	var img memory
	stats, err := Write(&img, root, WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	open := func() Handle {
		fsys, err := Open(bytes.NewReader(img.b), stats.Size)
		if err != nil {
			t.Fatal(err)
		}
		h, err := fsys.Root()
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	img.b[superOffset+8] &^= compatChecksum
	start := int64(le.Uint32(img.b[superOffset+40:])) * BlockSize
	inode := func(nid uint64) []byte { return img.b[start+int64(nid)*inodeUnit:][:extendedSize] }
	entries, err := open().Entries()
	if err != nil || entries[0].Name != "full" {
		t.Fatal(err)
	}
	whole := inode(entries[0].Ino)
	le.PutUint16(whole, 1|layoutPlain<<1)
	le.PutUint64(whole[8:], le.Uint64(whole[8:])&^(BlockSize-1)) // without the tail, which lies behind the inode
	for _, e := range entries[1:] {
		copy(inode(e.Ino), whole)
	}
	nothing := func(_ string, _ int, _ Entry, _ Handle, err error) error { return err }
	if err := Visit(open(), Visitor{Enter: nothing}); err == nil || !strings.Contains(err.Error(), "share their blocks") {
		t.Errorf("error is %v", err)
	}
}
