package erofs

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxName   = 255
	maxTarget = 4095 // PATH_MAX without the NUL
	maxInodes = math.MaxUint32
)

// placement is what the writer notes in an inode while it runs. It lies in the inode so that no table beside the tree is needed.
type placement struct {
	parent    *Inode // directories: where ".." leads
	pos       int64  // byte offset of the inode in the image
	size      int64  // i_size
	block     uint32 // layoutPlain, layoutInline: first block, or nullBlock; where own is set, counted from the own-data area
	own       uint32 // blocks of content in the own-data area
	nlink     uint32
	xattrs    int32  // bytes of the xattr area
	tailEntry uint32 // directories: first entry of the last block
	layout    uint8
	chunkBits uint8
	seen      bool
}

// tree is the input of one Write, checked.
type tree struct {
	o      *WriteOptions
	nodes  []*Inode // the root first; a directory's children lie together, subtrees follow each other
	counts [kinds]int

	digest   *xattrPrefix // nil if no digests are stored
	shared   sharing
	filtered bool         // an inode has attributes, and with them a name filter
	entries  []xattrEntry // scratch of xattrEntries
}

// collect lists the inodes below root, checks what does not depend on the layout, and counts links.
func (t *tree) collect(root *Inode) error {
	if root == nil || !root.IsDir() {
		return fmt.Errorf("root is not a directory")
	}
	root.out.parent = root
	if err := t.add(root); err != nil {
		return err
	}
	stack := []*Inode{root}
	for len(stack) > 0 {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		slices.SortFunc(dir.Entries, func(a, b Dirent) int { return strings.Compare(a.Name, b.Name) })
		for i, e := range dir.Entries {
			if err := checkName(e.Name); err != nil {
				return fmt.Errorf("directory %q: %w", t.pathOf(dir), err)
			}
			if i > 0 && dir.Entries[i-1].Name == e.Name {
				return fmt.Errorf("directory %q: name %q is there twice", t.pathOf(dir), e.Name)
			}
			if err := t.enter(dir, e); err != nil {
				return err
			}
		}
		for i := len(dir.Entries) - 1; i >= 0; i-- {
			if c := dir.Entries[i].Inode; c.IsDir() {
				stack = append(stack, c)
			}
		}
	}
	return nil
}

// enter notes that e is an entry of dir.
func (t *tree) enter(dir *Inode, e Dirent) error {
	c := e.Inode
	if c == nil {
		return fmt.Errorf("directory %q: name %q has no inode", t.pathOf(dir), e.Name)
	}
	if c.IsDir() {
		if c.out.seen {
			return fmt.Errorf("directory %q: %q leads to a directory that already has a place in the tree, %q",
				t.pathOf(dir), e.Name, t.pathOf(c))
		}
		c.out.parent = dir
		dir.out.nlink++
	}
	if !c.out.seen {
		if err := t.add(c); err != nil {
			return err
		}
	}
	if !c.IsDir() {
		c.out.nlink++
	}
	return nil
}

// add appends an inode that was not met before.
func (t *tree) add(n *Inode) error {
	if uint64(len(t.nodes)) >= maxInodes {
		return fmt.Errorf("more than %d inodes", uint64(maxInodes))
	}
	t.nodes = append(t.nodes, n)
	t.counts[kindOf(n)]++
	n.out.seen = true
	if n.IsDir() {
		n.out.nlink = 2
	}
	if err := checkInode(n); err != nil {
		// The entry that leads here is already in its directory, so the inode has a path.
		return fmt.Errorf("%q: %w", t.pathOf(n), err)
	}
	if err := t.countXattrs(n); err != nil {
		return fmt.Errorf("%q: %w", t.pathOf(n), err)
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("empty name")
	case name == "." || name == "..":
		return fmt.Errorf("name %q is reserved", name)
	case len(name) > maxName:
		return fmt.Errorf("name %.32q… has %d bytes: the limit is %d", name, len(name), maxName)
	case strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("name %q contains a slash or NUL", name)
	}
	return nil
}

func checkInode(n *Inode) error {
	if n.Mode&^(unix.S_IFMT|0o7777) != 0 || fileType(n.Mode) == 0 {
		return fmt.Errorf("mode %#o is not a file type with permissions", n.Mode)
	}
	if n.MtimeNsec > 999999999 {
		return fmt.Errorf("mtime: %d nanoseconds are more than a second", n.MtimeNsec)
	}
	if n.Mode&unix.S_IFMT == unix.S_IFLNK {
		if len(n.Target) < 1 || len(n.Target) > maxTarget {
			return fmt.Errorf("link target has %d bytes: want 1 to %d", len(n.Target), maxTarget)
		}
		if strings.IndexByte(n.Target, 0) >= 0 {
			return fmt.Errorf("link target %q contains NUL", n.Target)
		}
	}
	return nil
}

// fileType is the type byte of a directory entry, 0 for a mode without a known type.
func fileType(mode uint32) uint8 {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 1
	case unix.S_IFDIR:
		return 2
	case unix.S_IFCHR:
		return 3
	case unix.S_IFBLK:
		return 4
	case unix.S_IFIFO:
		return 5
	case unix.S_IFSOCK:
		return 6
	case unix.S_IFLNK:
		return 7
	}
	return 0
}

// pathOf names an inode in an error message. It searches the tree, because no inode but a directory knows its parent.
func (t *tree) pathOf(n *Inode) string {
	path := ""
	for n != t.nodes[0] {
		dir, name := t.parentOf(n)
		if dir == nil {
			return "?" + path
		}
		path = "/" + name + path
		n = dir
	}
	if path == "" {
		return "/"
	}
	return path
}

func (t *tree) parentOf(n *Inode) (*Inode, string) {
	for _, dir := range t.nodes {
		for _, e := range dir.Entries {
			if dir.IsDir() && e.Inode == n {
				return dir, e.Name
			}
		}
	}
	return nil, ""
}

// release takes the writer's notes out of the tree, so that it can be written again.
func (t *tree) release() {
	for _, n := range t.nodes {
		n.out = placement{}
	}
}
