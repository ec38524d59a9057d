package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/pagein/pagein/erofs"
)

// link counts the names of an inode.
type link struct {
	path        erofs.Path
	order       uint64 // in which it was met
	want, found uint32
}

// again counts the name of an inode that may have several, and reports whether the inode was met before.
func (c *checker) again(path erofs.Path, st erofs.Stat) bool {
	if l := c.links[st.Ino]; l != nil {
		l.found++
		return true
	}
	if c.seen.has(st.Ino) { // its one name is elsewhere
		c.links[st.Ino] = &link{path: path, order: c.stats.Names, want: st.Nlink, found: 2}
		return true
	}
	if st.Nlink == 1 {
		c.seen.add(st.Ino)
	} else {
		c.links[st.Ino] = &link{path: path, order: c.stats.Names, want: st.Nlink, found: 1}
	}
	return false
}

// leave checks the link count of a directory: itself, its name, and each directory in it.
func (c *checker) leave(path string, h erofs.Handle) error {
	depth := len(c.subdirs) - 1
	subdirs := c.subdirs[depth]
	c.subdirs = c.subdirs[:depth]
	if st := h.Stat(); st.Nlink != subdirs+2 && st.Nlink != 1 && !c.broken { // 1: the writer did not count
		c.problem(path, fmt.Errorf("%d links, but %d directories are in it", st.Nlink, subdirs))
	}
	return nil
}

// atEnd checks what only all names together can tell.
func (c *checker) atEnd() {
	if c.broken {
		return
	}
	wrong := slices.DeleteFunc(slices.Collect(maps.Values(c.links)), func(l *link) bool { return l.want == l.found })
	slices.SortFunc(wrong, func(a, b *link) int { return cmp.Compare(a.order, b.order) })
	for _, l := range wrong {
		c.problem(l.path.String(), fmt.Errorf("%d links, but %d names lead to it", l.want, l.found))
	}
	if c.super.Inodes != 0 && c.super.Inodes != c.stats.Inodes {
		c.problem(".", fmt.Errorf("the superblock says %d inodes, there are %d", c.super.Inodes, c.stats.Inodes))
	}
}

// inodeSet is a set of inode numbers, small where they lie close together, as they do in an image.
type inodeSet map[uint64]*[64]uint64

func (s inodeSet) add(ino uint64) {
	page := s[ino>>12]
	if page == nil {
		page = new([64]uint64)
		s[ino>>12] = page
	}
	page[ino>>6&63] |= 1 << (ino & 63)
}

func (s inodeSet) has(ino uint64) bool {
	page := s[ino>>12]
	return page != nil && page[ino>>6&63]&(1<<(ino&63)) != 0
}
