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

	// maxImplied bounds the directories that no member describes: a name of a few kilobytes can ask for maxDepth of them. Real tars have
	// hardly any.
	maxImplied = 1 << 20
)

// node is one name, in the tree or in what a tar says about it. Hard links are nodes with the same inode.
type node struct {
	ino     *erofs.Inode     // nil if a tar says only that the name hides what is below it
	kids    map[string]*node // of directories
	implied bool             // a directory that no member described so far
	hides   bool             // nothing of lower layers is seen under this name
	device  bool             // it hides because it is a whiteout of overlayfs, which is a member of the tar
	opaque  bool             // a directory in which no entries of lower layers are seen
}

func (n *node) isDir() bool     { return n.ino != nil && n.ino.IsDir() }
func (n *node) isSymlink() bool { return n.ino != nil && n.ino.Mode&unix.S_IFMT == unix.S_IFLNK }

func (n *node) put(name string, kid *node) {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	n.kids[name] = kid
}

// impliedDir is a directory that nobody described. Below a setgid directory it is what mkdir(2) makes there.
func impliedDir(parent *erofs.Inode) *erofs.Inode {
	ino := &erofs.Inode{Mode: unix.S_IFDIR | 0o755}
	if parent != nil && parent.Mode&unix.S_ISGID != 0 {
		ino.Mode |= unix.S_ISGID
		ino.GID = parent.GID
	}
	return ino
}

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

// entries turns the nodes below n into directory entries of their inodes, sorted by name, and lets go of the nodes.
func (n *node) entries() {
	for stack := []*node{n}; len(stack) > 0; {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		dir.ino.Entries = make([]erofs.Dirent, 0, len(dir.kids))
		for name, kid := range dir.kids {
			dir.ino.Entries = append(dir.ino.Entries, erofs.Dirent{Name: name, Inode: kid.ino})
			if kid.isDir() {
				stack = append(stack, kid)
			}
		}
		dir.kids = nil
		slices.SortFunc(dir.ino.Entries, func(a, b erofs.Dirent) int { return strings.Compare(a.Name, b.Name) })
	}
}
