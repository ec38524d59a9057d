package erofs

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// maxXattrArea is the largest xattr area that i_xattr_icount can express, in bytes.
const maxXattrArea = xattrHeadSize + xattrUnit*(math.MaxUint16-1)

// countXattrs sorts and checks the attributes of an inode and notes them for sharing.
func (t *tree) countXattrs(n *Inode) error {
	if len(n.Xattrs) == 0 && t.digest == nil {
		return nil
	}
	slices.SortFunc(n.Xattrs, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	for i, x := range n.Xattrs {
		if i > 0 && n.Xattrs[i-1].Name == x.Name {
			return fmt.Errorf("xattr %q is there twice", x.Name)
		}
	}
	entries, err := t.xattrEntries(n)
	if err != nil {
		return err
	}
	for _, e := range entries {
		t.shared.count(e)
	}
	return nil
}

// xattrEntries returns the entries of an inode: its digest first, as the kernel looks for it whenever it reads the inode, then its attributes
// in their order. The slice is valid until the next call.
func (t *tree) xattrEntries(n *Inode) ([]xattrEntry, error) {
	t.entries = t.entries[:0]
	if e, ok := t.digest.entry(n); ok {
		t.entries = append(t.entries, e)
	}
	for _, x := range n.Xattrs {
		e, err := newXattrEntry(x)
		if err != nil {
			return nil, err
		}
		if t.digest.owns(e) {
			return nil, fmt.Errorf("xattr %q: the name is reserved for content digests", x.Name)
		}
		t.entries = append(t.entries, e)
	}
	return t.entries, nil
}

// sizeXattrs decides which attributes of an inode are shared, and sets the length of its xattr area.
func (t *tree) sizeXattrs(n *Inode) error {
	if len(n.Xattrs) == 0 && t.digest == nil {
		return nil
	}
	entries, err := t.xattrEntries(n)
	if err != nil || len(entries) == 0 {
		return err
	}
	size, shared := xattrHeadSize, 0
	for _, e := range entries {
		if shared < maxSharedPerInode && t.shared.place(e) != nil {
			shared++
			size += xattrIDSize
		} else {
			size += e.size()
		}
		if size > maxXattrArea {
			return fmt.Errorf("xattrs take more than %d bytes together", maxXattrArea)
		}
	}
	n.out.xattrs = int32(size)
	t.filtered = true
	return nil
}

// encodeXattrs appends the xattr area of an inode that sizeXattrs has seen: head, numbers of shared attributes, entries.
func (img *image) encodeXattrs(b []byte, n *Inode) ([]byte, error) {
	entries, err := img.t.xattrEntries(n)
	if err != nil {
		return nil, err
	}
	head := len(b)
	b = append(b, make([]byte, xattrHeadSize)...)
	filter, shared := uint32(xattrFilterEmpty), 0
	own := entries[:0]
	for _, e := range entries {
		filter &^= img.t.digest.filterBit(e)
		if shared < maxSharedPerInode {
			if c := img.t.shared.place(e); c != nil {
				shared++
				b = le.AppendUint32(b, uint32((img.shared%BlockSize+c.off)/xattrUnit))
				continue
			}
		}
		own = append(own, e)
	}
	le.PutUint32(b[head:], filter)
	b[head+4] = uint8(shared)
	for _, e := range own {
		b = e.encode(b)
	}
	return b, nil
}
