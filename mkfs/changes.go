package mkfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// changes gathers what the members of one tar say, whatever lies below them: the last word on each name, as if the tar were unpacked into an
// empty directory, and what is to be hidden. So the order of members matters to each other only, and a symbolic link of a lower layer is not
// followed: container runtimes, which unpack every layer into a directory of its own, put a directory in its place.
type changes struct {
	top     *node
	lower   *node // the tree that the changes will be merged into: hard links may lead there
	implied *int  // directories that were made because a name needs them
}

// place puts an inode under a name, replacing what the tar had there. A directory over a directory keeps the entries.
func (c *changes) place(parts []string, ino *erofs.Inode) error {
	if len(parts) == 0 {
		if !ino.IsDir() {
			return errors.New("the top of the tree must be a directory")
		}
		c.top.ino, c.top.implied = ino, false
		return nil
	}
	dir, err := c.dir(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	name := parts[len(parts)-1]
	switch old := dir.kids[name]; {
	case old == nil:
		dir.put(name, &node{ino: ino})
	case old.isDir() && ino.IsDir():
		old.ino, old.implied = ino, false
	default:
		dir.put(name, &node{ino: ino, hides: old.hides})
	}
	return nil
}

// dir returns a directory of the tar, and makes it and those on the way if they are missing.
func (c *changes) dir(parts []string) (*node, error) {
	path, err := resolver[*node]{c.step}.walk(c.top, parts)
	if err != nil {
		return nil, err
	}
	return path[len(path)-1], nil
}

func (c *changes) step(dir *node, name string) (*node, string, error) {
	next := dir.kids[name]
	if next == nil {
		next = &node{}
		dir.put(name, next)
	}
	switch {
	case next.ino == nil:
		if *c.implied++; *c.implied > maxImplied {
			return nil, "", fmt.Errorf("more than %d directories are not described: no real tar is like that", maxImplied)
		}
		next.ino, next.implied = impliedDir(nil), true
	case next.isSymlink():
		return nil, next.ino.Target, nil
	case !next.isDir():
		return nil, "", unix.ENOTDIR
	}
	return next, "", nil
}

// both is a directory as the tar and the tree below have it; either can be nil.
type both struct{ own, lower *node }

// kid returns what an entry is: that of the tar if it has one, and what the tree below has. Nothing is hidden from hard links.
func (b both) kid(name string) (kid both, n *node) {
	if b.own != nil {
		kid.own = b.own.kids[name]
	}
	if b.lower != nil {
		kid.lower = b.lower.kids[name]
	}
	if n = kid.own; n == nil || n.ino == nil && !n.device {
		n = kid.lower
	}
	return kid, n
}

func stepBoth(dir both, name string) (both, string, error) {
	kid, n := dir.kid(name)
	switch {
	case n == nil:
		return both{}, "", unix.ENOENT
	case n.isSymlink():
		return both{}, n.ino.Target, nil
	case !n.isDir():
		return both{}, "", unix.ENOTDIR
	}
	return kid, "", nil
}

// hardLink puts a further name of an inode that the tar or the tree below has.
func (c *changes) hardLink(parts []string, target string) error {
	ino, err := c.lookup(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	switch {
	case ino == nil: // overlayfs has all whiteouts share an inode
		return c.hide(parts)
	case ino.IsDir():
		return fmt.Errorf("hard link to %q: it is a directory", target)
	}
	return c.place(parts, ino)
}

// lookup returns what has a name, nil for a whiteout of overlayfs. Symbolic links are followed in its directory, not at its end.
func (c *changes) lookup(name string) (*erofs.Inode, error) {
	parts, err := splitPath(name)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return c.top.ino, nil
	}
	last := parts[len(parts)-1]
	path, err := resolver[both]{stepBoth}.walk(both{c.top, c.lower}, parts[:len(parts)-1])
	if err != nil {
		return nil, err
	}
	_, n := path[len(path)-1].kid(last)
	if n == nil {
		return nil, fmt.Errorf("%q: %w", last, unix.ENOENT)
	}
	return n.ino, nil
}
