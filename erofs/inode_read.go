package erofs

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// node is an inode that was read from an image.
type node struct {
	diskInode
	fsys *FS
	nid  uint64
	body int64 // byte offset behind inode and attributes: of the inline tail or the chunk map
}

// errorf makes an error that says which inode is wrong.
func (n *node) errorf(format string, args ...any) error {
	return fmt.Errorf("nid %d: %w", n.nid, fmt.Errorf(format, args...))
}

// inode reads and checks one inode.
func (fsys *FS) inode(nid uint64) (*node, error) {
	n := &node{fsys: fsys, nid: nid}
	start := uint64(fsys.super.MetaBlock) << fsys.bits
	if start > uint64(fsys.size) || nid >= (uint64(fsys.size)-start)/inodeUnit {
		return nil, n.errorf("not in an image of %d bytes", fsys.size)
	}
	pos := start + nid*inodeUnit
	var buf [extendedSize]byte
	b := buf[:min(extendedSize, uint64(fsys.size)-pos)]
	if err := fsys.readMeta(b, pos); err != nil {
		return nil, n.errorf("inode: %w", err)
	}
	size := inodeSize(b)
	if size > len(b) {
		return nil, n.errorf("inode: %d bytes do not fit into the image", size)
	}
	n.decode(b)
	if !n.Extended {
		n.Mtime += fsys.super.BuildTime
		n.MtimeNsec = fsys.super.BuildTimeNsec
	}
	n.body = int64(pos) + int64(size) + int64(n.XattrSize)
	return n, n.check()
}

func (n *node) check() error {
	switch {
	case n.Flags != 0:
		return n.errorf("i_format: bits %#x are not supported", n.Flags)
	case n.Layout > layoutChunked:
		return n.errorf("i_format: data layout %d is not supported", n.Layout)
	case fileType(uint32(n.Mode)) == 0:
		return n.errorf("i_mode: %#o has no known file type", n.Mode)
	case n.Size > math.MaxInt64:
		return n.errorf("i_size: %d is too large", n.Size)
	case n.XattrSize > 0 && n.body > n.fsys.size:
		return n.errorf("i_xattr_icount: %d bytes of attributes do not fit into the image", n.XattrSize)
	}
	return nil
}

func (n *node) isDir() bool     { return uint32(n.Mode)&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return uint32(n.Mode)&unix.S_IFMT == unix.S_IFREG }
func (n *node) isSymlink() bool { return uint32(n.Mode)&unix.S_IFMT == unix.S_IFLNK }

// target returns what a symbolic link points to.
func (n *node) target() (string, error) {
	if n.Size == 0 || n.Size > maxTarget {
		return "", n.errorf("i_size: %d bytes of link target: want 1 to %d", n.Size, maxTarget)
	}
	b := make([]byte, n.Size)
	if _, err := n.readAt(b, 0); err != nil {
		return "", err
	}
	return cString(b), nil
}
