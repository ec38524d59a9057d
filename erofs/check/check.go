// Package check verifies the structure of an EROFS image, as fsck does: that every inode, name, attribute and piece of data is what and where it must be.
//
// It reads the metadata through package erofs, which refuses most of what is wrong by itself; here is what only somebody sees who looks at all of it. It
// does not read file data, but looks whether there is a place for it.
package check

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// Stats says what was checked.
type Stats struct {
	Inodes      uint64
	Names       uint64 // in directories, without "." and ".."
	Directories uint64
	Files       uint64 // regular ones
	Symlinks    uint64
	Special     uint64 // devices, pipes, sockets
	Xattrs      uint64 // extended attributes, shared ones once for each inode
	Bytes       int64  // file sizes
	Mapped      int64  // of these, bytes that lie on a device or in blocks of the image
}

// Image checks everything below the root of an image and calls problem, which may be nil, for each thing that is wrong. The error says that there was no
// going on, or that ctx ended.
func Image(ctx context.Context, fsys *erofs.FS, problem func(path string, err error)) (Stats, error) {
	root, err := fsys.Root()
	if err != nil {
		return Stats{}, err
	}
	c := &checker{ctx: ctx, super: fsys.Super(), problem: problem, seen: inodeSet{}, links: map[uint64]*link{}}
	if problem == nil {
		c.problem = func(string, error) {}
	}
	if err := erofs.Visit(root, erofs.Visitor{Enter: c.enter, Leave: c.leave}); err != nil {
		return c.stats, fmt.Errorf("check image: %w", err)
	}
	c.atEnd()
	return c.stats, nil
}

type checker struct {
	ctx     context.Context
	super   erofs.Super
	problem func(path string, err error)
	stats   Stats
	seen    inodeSet         // inodes with one link
	links   map[uint64]*link // inodes with more
	subdirs []uint32         // in the directories that lead to the current one
	broken  bool             // something could not be read, so that counts say nothing
}

// failed notes that a part of the image is out of reach.
func (c *checker) failed(path string, err error) {
	c.broken = true
	c.problem(path, err)
}

func (c *checker) enter(path string, depth int, e erofs.Entry, h erofs.Handle, err error) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if err != nil {
		c.failed(path, err)
		return nil
	}
	st := h.Stat()
	if depth > 0 {
		c.stats.Names++
	}
	if e.Type != st.Mode&unix.S_IFMT {
		c.problem(path, fmt.Errorf("the directory calls it a %s, its inode %d is a %s", erofs.TypeName(e.Type), st.Ino, erofs.TypeName(st.Mode)))
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		c.subdirs = append(c.subdirs[:min(depth, len(c.subdirs))], 0)
		if depth > 0 {
			c.subdirs[depth-1]++
		}
	} else if c.again(e.Path(), st) {
		return nil
	}
	c.stats.Inodes++
	c.inode(path, h, st)
	return nil
}

// inode checks what an inode says of itself.
func (c *checker) inode(path string, h erofs.Handle, st erofs.Stat) {
	if st.MtimeNsec > 999_999_999 {
		c.problem(path, fmt.Errorf("modification time has %d nanoseconds", st.MtimeNsec))
	}
	xattrs, err := h.Xattrs()
	if err != nil {
		c.failed(path, err)
	}
	c.stats.Xattrs += uint64(len(xattrs))
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		c.stats.Directories++
		c.dots(path, h, st)
	case unix.S_IFREG:
		c.stats.Files++
		c.stats.Bytes += st.Size
		c.data(path, h, st)
	case unix.S_IFLNK:
		c.stats.Symlinks++
		if target, err := h.Target(); err != nil {
			c.failed(path, err)
		} else if int64(len(target)) != st.Size {
			c.problem(path, errors.New("the link's target contains NUL"))
		}
	default:
		c.stats.Special++
	}
}

// dots checks the entry that leads to the directory itself; the one to its parent was checked on the way here.
func (c *checker) dots(path string, h erofs.Handle, st erofs.Stat) {
	if e, err := h.Lookup("."); err != nil {
		c.failed(path, err)
	} else if e.Ino != st.Ino || e.Type != unix.S_IFDIR {
		c.problem(path, fmt.Errorf(`its "." leads to inode %d, it is %d`, e.Ino, st.Ino))
	}
	if path != "." {
		return
	}
	if e, err := h.Lookup(".."); err != nil {
		c.failed(path, err)
	} else if e.Ino != st.Ino || e.Type != unix.S_IFDIR {
		c.problem(path, fmt.Errorf(`the root's ".." leads to inode %d, it is %d`, e.Ino, st.Ino))
	}
}
