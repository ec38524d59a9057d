package treetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// node is what one path of a tree shows.
type node struct {
	mode, uid, gid uint32
	size           int64
	mtime          unix.Timespec
	rdev           uint64
	target         string
	xattrs         map[string]string
	firstLink      string // first path, in the order of the walk, that names the same inode; directories name themselves
}

// tree is all of a directory, keyed by path relative to its top.
type tree struct {
	paths []string // in lexical order of the walk
	nodes map[string]*node
}

type inodeID struct{ dev, ino uint64 }

// scan reads names and attributes of everything below dir, following no symbolic link.
func scan(dir string) (*tree, error) {
	t := &tree{nodes: map[string]*node{}}
	links := map[inodeID]string{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("lstat %s: %w", path, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return nil
		}
		n := &node{mode: st.Mode, uid: st.Uid, gid: st.Gid, size: st.Size, mtime: st.Mtim, firstLink: rel}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
		case unix.S_IFCHR, unix.S_IFBLK:
			n.rdev = st.Rdev
		case unix.S_IFLNK:
			if n.target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inodeID{st.Dev, st.Ino}
			if first, ok := links[id]; ok {
				n.firstLink = first
			} else {
				links[id] = rel
			}
		}
		if n.xattrs, err = xattrs(path); err != nil {
			return err
		}
		t.paths = append(t.paths, rel)
		t.nodes[rel] = n
		return nil
	})
	return t, err
}

// xattrs reads all extended attributes of path itself.
func xattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs of %s: %w", path, err)
	}
	all := map[string]string{}
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("read xattr %s of %s: %w", name, path, err)
		}
		all[name] = string(value[:m])
	}
	return all, nil
}
