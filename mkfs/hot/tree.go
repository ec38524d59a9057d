package hot

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// maxLinks is how many symbolic links one path may lead through, as in the kernel.
const maxLinks = 40

// tree finds files by path. What it has looked up in a directory it remembers.
type tree struct {
	root *erofs.Inode
	dirs map[*erofs.Inode]map[string]*erofs.Inode
}

func newTree(root *erofs.Inode) *tree {
	return &tree{root, map[*erofs.Inode]map[string]*erofs.Inode{}}
}

// entries are the names in a directory.
func (t *tree) entries(dir *erofs.Inode) map[string]*erofs.Inode {
	names, ok := t.dirs[dir]
	if !ok {
		names = make(map[string]*erofs.Inode, len(dir.Entries))
		for _, e := range dir.Entries {
			names[e.Name] = e.Inode
		}
		t.dirs[dir] = names
	}
	return names
}

// find returns what a path leads to, with all symbolic links followed, or nil: in the next version of an image, a directory may have become a link.
func (t *tree) find(path string) *erofs.Inode {
	above, at, links := []*erofs.Inode{}, t.root, 0
	for path != "" {
		var part string
		part, path, _ = strings.Cut(path, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			if k := len(above) - 1; k >= 0 {
				at, above = above[k], above[:k]
			}
			continue
		}
		if !at.IsDir() {
			return nil
		}
		next := t.entries(at)[part]
		if next == nil {
			return nil
		}
		if next.Mode&unix.S_IFMT != unix.S_IFLNK {
			above, at = append(above, at), next
			continue
		}
		if links++; links > maxLinks {
			return nil
		}
		if strings.HasPrefix(next.Target, "/") {
			above, at = above[:0], t.root
		}
		path = next.Target + "/" + path
	}
	return at
}

// files calls f for every regular file, once for each of its names.
func (t *tree) files(f func(*erofs.Inode)) {
	dirs := []*erofs.Inode{t.root}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for _, e := range dir.Entries {
			switch {
			case e.Inode.IsDir():
				dirs = append(dirs, e.Inode)
			case e.Inode.IsRegular():
				f(e.Inode)
			}
		}
	}
}
