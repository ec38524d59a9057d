package mkfs

import (
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// describe lists a finished tree whose only sink is a memorySink, one line for each path, sorted.
func describe(t testing.TB, tree *Tree) []string {
	t.Helper()
	var lines []string
	first := map[*erofs.Inode]string{}
	var visit func(path string, n *erofs.Inode)
	visit = func(path string, n *erofs.Inode) {
		for _, e := range n.Entries {
			child := path + e.Name
			mode := fs.FileMode(e.Inode.Mode & 0o777)
			if e.Inode.Mode&unix.S_ISGID != 0 {
				mode |= fs.ModeSetgid
			}
			switch kind := e.Inode.Mode & unix.S_IFMT; {
			case first[e.Inode] != "":
				lines = append(lines, child+" = "+first[e.Inode])
				continue
			case kind == unix.S_IFDIR:
				lines = append(lines, fmt.Sprintf("%s %v", child, mode|fs.ModeDir))
				visit(child+"/", e.Inode)
			case kind == unix.S_IFLNK:
				lines = append(lines, child+" -> "+e.Inode.Target)
			default:
				lines = append(lines, fmt.Sprintf("%s %v %q", child, mode, contentOf(t, tree, e.Inode)))
			}
			if !e.Inode.IsDir() {
				first[e.Inode] = child
			}
		}
	}
	visit("", tree.Root())
	slices.Sort(lines)
	return lines
}

// contentOf reads a file of a tree whose only sink is a memorySink.
func contentOf(t testing.TB, tree *Tree, n *erofs.Inode) []byte {
	t.Helper()
	if n.Size > 16<<20 {
		t.Fatalf("a file of %d bytes is too long for this test", n.Size)
	}
	b := make([]byte, n.Size)
	for _, e := range n.Extents {
		copy(b[e.Off:e.Off+e.Len], tree.store.sink.(*memorySink).data[e.Block])
	}
	if n.Inline.Len > 0 {
		at := int64(0)
		if k := len(n.Extents); k > 0 {
			at = n.Extents[k-1].Off + n.Extents[k-1].Len
		}
		if _, err := tree.InlineData().ReadAt(b[at:at+int64(n.Inline.Len)], n.Inline.Off); err != nil {
			t.Fatal(err)
		}
	}
	return b
}
