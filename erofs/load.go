package erofs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Tree reads a whole metadata image back, as [Write] takes it: what was written is what is read, so that a tree can be changed and written anew. Devices keep their numbers.
// The tree's inline data is the image itself: its reader must be [WriteOptions.InlineData]. Digests are kept if the image states some. Images that hold the data of larger files
// themselves are refused: it would not be where the new image looks for it.
func (fsys *FS) Tree() (*Inode, error) {
	if fsys.blockSize() != BlockSize {
		return nil, fmt.Errorf("read EROFS tree: blocks are of %d bytes, want %d", fsys.blockSize(), BlockSize)
	}
	root, err := fsys.Root()
	if err != nil {
		return nil, fmt.Errorf("read EROFS tree: %w", err)
	}
	l := loader{links: map[uint64]*Inode{}}
	if err := Visit(root, Visitor{Enter: l.enter}); err != nil {
		return nil, fmt.Errorf("read EROFS tree: %w", err)
	}
	return l.above[0], nil
}

// loader makes the tree of a visit.
type loader struct {
	above []*Inode          // the directory at each depth that the visit is in
	links map[uint64]*Inode // files by nid
}

func (l *loader) enter(path string, depth int, e Entry, h Handle, err error) error {
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	st := h.Stat()
	n := l.links[st.Ino]
	if n == nil {
		if n, err = load(h, st); err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		if !n.IsDir() {
			l.links[st.Ino] = n
		}
	}
	if depth > 0 {
		dir := l.above[depth-1]
		dir.Entries = append(dir.Entries, Dirent{e.Name, n})
	}
	if n.IsDir() {
		l.above = append(l.above[:depth], n)
	}
	return nil
}

// load reads one inode.
func load(h Handle, st Stat) (n *Inode, err error) {
	n = &Inode{Mode: st.Mode, UID: st.UID, GID: st.GID, Mtime: st.Mtime, MtimeNsec: st.MtimeNsec, Rdev: st.Rdev}
	if n.Xattrs, err = h.Xattrs(); err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		n.Target, err = h.Target()
	case unix.S_IFREG:
		err = n.loadFile(h, st.Size)
	}
	return n, err
}

var errOwnData = errors.New("its data is in the image itself")

// loadFile reads where the data of a regular file is.
func (n *Inode) loadFile(h Handle, size int64) error {
	n.Size = size
	sum, ok, err := h.Digest()
	if err != nil {
		return err
	}
	if ok {
		n.Digest = &sum
	}
	for off := int64(0); off < size; {
		s, err := h.node.span(off)
		if err != nil {
			return err
		}
		switch off += s.len; {
		case s.hole:
		case s.inline || s.device == 0 && size < BlockSize: // in a block of its own if its attributes leave it no room
			n.Inline = Inline{Off: s.pos, Len: int(s.len)}
		case s.device == 0:
			return errOwnData
		default:
			n.addExtent(Extent{Off: s.off, Len: s.len, Device: s.device, Block: uint64(s.pos) >> h.node.fsys.bits}, h.node.fsys.bits)
		}
	}
	return nil
}

// addExtent appends an extent, or lengthens the last one if both lie behind each other in the file and on the device, whose blocks are of 1<<bits bytes.
func (n *Inode) addExtent(e Extent, bits uint8) {
	if k := len(n.Extents) - 1; k >= 0 {
		last := &n.Extents[k]
		if last.Device == e.Device && last.Off+last.Len == e.Off && last.Block+uint64(last.Len)>>bits == e.Block {
			last.Len += e.Len
			return
		}
	}
	n.Extents = append(n.Extents, e)
}
