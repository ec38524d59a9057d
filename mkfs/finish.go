package mkfs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/pagein/pagein/erofs"
)

// Finish puts the places of all data into the tree and ends its construction. The sink must be closed before.
func (t *Tree) Finish(o Overrides) error {
	if t.root == nil && t.top == nil {
		return errors.New("finish tree: it has no source")
	}
	if t.root == nil {
		t.top.entries()
		t.root, t.top = t.top.ino, nil
	}
	t.store.resolve()
	return t.override(o)
}

// each calls f for every name of the finished tree in a fixed order, the top with the name "".
func (t *Tree) each(f func(name string, n *erofs.Inode)) {
	f("", t.root)
	for stack := []*erofs.Inode{t.root}; len(stack) > 0; {
		dir := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, e := range dir.Entries {
			f(e.Name, e.Inode)
			if e.Inode.IsDir() {
				stack = append(stack, e.Inode)
			}
		}
	}
}

// Summary describes a finished tree.
type Summary struct {
	// UUID is derived from names, attributes (extended ones with their values), times and sizes, so that the same source gives the same
	// image. It does not depend on file contents.
	UUID [16]byte
	// Mtime is the newest modification time in the tree, in seconds, and not before 1970.
	Mtime int64
}

// Summarize computes the summary of a finished tree, of which it sorts the extended attributes.
func (t *Tree) Summarize() Summary {
	var s Summary
	h := sha256.New()
	var b []byte
	t.each(func(name string, n *erofs.Inode) {
		s.Mtime = max(s.Mtime, n.Mtime)
		b = binary.AppendUvarint(b[:0], uint64(len(name)))
		b = append(b, name...)
		for _, v := range []uint32{n.Mode, n.UID, n.GID, n.MtimeNsec, n.Rdev, uint32(len(n.Entries)), uint32(len(n.Xattrs))} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(n.Mtime))
		b = binary.LittleEndian.AppendUint64(b, uint64(n.Size))
		b = append(b, n.Target...)
		// File systems list attributes in any order.
		slices.SortFunc(n.Xattrs, func(a, b erofs.Xattr) int { return strings.Compare(a.Name, b.Name) })
		for _, x := range n.Xattrs {
			b = binary.AppendUvarint(append(binary.AppendUvarint(b, uint64(len(x.Name))), x.Name...), uint64(len(x.Value)))
			b = append(b, x.Value...)
		}
		h.Write(b)
	})
	s.UUID = makeUUID(h.Sum(nil))
	return s
}

// makeUUID makes a UUID of a digest.
func makeUUID(digest []byte) (u [16]byte) {
	copy(u[:], digest)
	u[6] = u[6]&0x0f | 0x80 // version 8: made by a rule of one's own (RFC 9562)
	u[8] = u[8]&0x3f | 0x80
	return u
}
