package mkfs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

const (
	maxNameLen   = 255  // NAME_MAX
	maxTargetLen = 4095 // PATH_MAX without the NUL
	maxPathLen   = 4096 // a bit more than programs can name, as members may begin with "./"
	maxDepth     = 2048 // directories in each other: a path of maxPathLen has no more
	maxLinkHops  = 40   // symbolic links that Linux follows in one path
)

// node is one name in a tree that tars build. Hard links are nodes with the same inode.
type node struct {
	ino     *erofs.Inode
	kids    map[string]*node // directories
	implied bool             // a directory that no member described so far
	layer   int32            // layer that this entry is from
	touched int32            // newest layer that put this entry or anything below it
}

func newNode(ino *erofs.Inode, layer int32) *node {
	return &node{ino: ino, layer: layer, touched: layer}
}

// maxImplied bounds the directories that no member describes: a name of a few kilobytes can ask for maxDepth of them. Real tars have
// hardly any.
const maxImplied = 1 << 20

// splitPath cuts a name of a tar into components. A leading "/" and "." count for nothing.
func splitPath(name string) ([]string, error) {
	if len(name) > maxPathLen {
		return nil, fmt.Errorf("the name has %d bytes: at most %d are accepted", len(name), maxPathLen)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, errors.New("the name contains a NUL byte")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return nil, errors.New(`".." in a name is refused, as it could lead out of the tree`)
		case len(part) > maxNameLen:
			return nil, fmt.Errorf("a component of %d bytes is too long: Linux allows %d", len(part), maxNameLen)
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// walk returns the directories from the top to the one that parts name, resolving symbolic links inside the tree as a chroot would. It
// makes directories that are missing if create is set; otherwise they are an error.
func (t *Tree) walk(parts []string, create bool) ([]*node, error) {
	path := make([]*node, 1, len(parts)+1)
	path[0] = t.top
	for hops := 0; len(parts) > 0; {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..": // only from a symbolic link: "/.." is "/"
			path = path[:max(len(path)-1, 1)]
			continue
		}
		if len(path) > maxDepth { // symbolic links can lead deeper than a name is long
			return nil, fmt.Errorf("more than %d directories lie in each other: %w", maxDepth, unix.ENAMETOOLONG)
		}
		dir := path[len(path)-1]
		next := dir.kids[part]
		switch {
		case next == nil && !create:
			return nil, fmt.Errorf("%q: %w", part, unix.ENOENT)
		case next == nil:
			if len(part) > maxNameLen {
				return nil, fmt.Errorf("%.20q…: %w", part, unix.ENAMETOOLONG)
			}
			if t.implied++; t.implied > maxImplied {
				return nil, fmt.Errorf("more than %d directories are not described: no real tar is like that", maxImplied)
			}
			next = newNode(impliedDir(dir.ino), t.layer)
			next.implied = true
			dir.put(part, next)
			fallthrough
		case next.ino.IsDir():
			path = append(path, next)
		case next.ino.Mode&unix.S_IFMT == unix.S_IFLNK:
			if hops++; hops > maxLinkHops {
				return nil, fmt.Errorf("%q: %w", part, unix.ELOOP)
			}
			if strings.HasPrefix(next.ino.Target, "/") {
				path = path[:1]
			}
			parts = slices.Concat(strings.Split(next.ino.Target, "/"), parts)
		default:
			return nil, fmt.Errorf("%q: %w", part, unix.ENOTDIR)
		}
	}
	return path, nil
}

func (n *node) put(name string, kid *node) {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[name] = kid
}

// place puts an inode under a name, replacing what is there. A directory over a directory keeps the entries.
func (t *Tree) place(parts []string, ino *erofs.Inode) error {
	if len(parts) == 0 {
		if !ino.IsDir() {
			return errors.New("the top of the tree must be a directory")
		}
		t.top.ino, t.top.layer = ino, t.layer
		return nil
	}
	path, err := t.walk(parts[:len(parts)-1], true)
	if err != nil {
		return err
	}
	dir, name := path[len(path)-1], parts[len(parts)-1]
	if old := dir.kids[name]; old != nil && old.ino.IsDir() && ino.IsDir() {
		old.ino, old.layer, old.touched, old.implied = ino, t.layer, t.layer, false
	} else {
		dir.put(name, newNode(ino, t.layer))
	}
	touch(path, t.layer)
	return nil
}

func touch(path []*node, layer int32) {
	for _, n := range path {
		n.touched = layer
	}
}

// lookup returns the node of a name. Symbolic links are followed in its directory, not at its end.
func (t *Tree) lookup(parts []string) (*node, error) {
	if len(parts) == 0 {
		return t.top, nil
	}
	path, err := t.walk(parts[:len(parts)-1], false)
	if err != nil {
		return nil, err
	}
	last := parts[len(parts)-1]
	n := path[len(path)-1].kids[last]
	if n == nil {
		return nil, fmt.Errorf("%q: %w", last, unix.ENOENT)
	}
	return n, nil
}

// entries turns the nodes below n into directory entries of their inodes, sorted by name, and lets go of the nodes.
func (n *node) entries() {
	for stack := []*node{n}; len(stack) > 0; {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		dir.ino.Entries = make([]erofs.Dirent, 0, len(dir.kids))
		for name, kid := range dir.kids {
			dir.ino.Entries = append(dir.ino.Entries, erofs.Dirent{Name: name, Inode: kid.ino})
			if kid.ino.IsDir() {
				stack = append(stack, kid)
			}
		}
		dir.kids = nil
		slices.SortFunc(dir.ino.Entries, func(a, b erofs.Dirent) int { return strings.Compare(a.Name, b.Name) })
	}
}
