package erofs

import "fmt"

// xattrs reads the attributes of an inode, those that the kernel shows: first the shared ones, which are elsewhere in the image, then those in the
// inode.
func (n *node) xattrs() ([]Xattr, error) {
	entries, err := n.xattrEntries()
	if err != nil {
		return nil, err
	}
	var list []Xattr
	for _, e := range entries {
		base, rest, err := n.fsys.fullName(e)
		if err != nil {
			return nil, n.errorf("%w", err)
		}
		if base > 0 {
			list = append(list, Xattr{Name: xattrNames[base] + rest, Value: e.value})
		}
	}
	return list, nil
}

// digest reads the content digest of a regular file. ok is false if it has none.
func (n *node) digest() (sum [32]byte, ok bool, err error) {
	if n.fsys.digest == nil || !n.isRegular() {
		return sum, false, nil
	}
	entries, err := n.xattrEntries()
	if err != nil {
		return sum, false, err
	}
	for _, e := range entries {
		base, rest, err := n.fsys.fullName(e)
		if err != nil {
			return sum, false, n.errorf("%w", err)
		}
		if base != n.fsys.digest.base || rest != n.fsys.digest.infix {
			continue
		}
		if len(e.value) != len(digestHead)+len(sum) || string(e.value[:len(digestHead)]) != digestHead {
			return sum, false, n.errorf("digest: %d bytes that are not %q and a SHA-256", len(e.value), digestHead)
		}
		return [32]byte(e.value[len(digestHead):]), true, nil
	}
	return sum, false, nil
}

// xattrEntries reads and checks the attributes of an inode. No two have the same name, and the name filter admits them all: otherwise readers
// would disagree about what is there.
func (n *node) xattrEntries() ([]xattrEntry, error) {
	if n.XattrSize == 0 {
		return nil, nil
	}
	area := make([]byte, n.XattrSize)
	if err := n.fsys.readMeta(area, uint64(n.body-int64(n.XattrSize))); err != nil {
		return nil, n.errorf("xattrs: %w", err)
	}
	list, err := n.fsys.decodeXattrs(area)
	if err != nil {
		return nil, n.errorf("%w", err)
	}
	if err := n.fsys.checkXattrs(list, le.Uint32(area)); err != nil {
		return nil, n.errorf("%w", err)
	}
	return list, nil
}

// decodeXattrs reads an xattr area and the shared entries that it refers to.
func (fsys *FS) decodeXattrs(area []byte) ([]xattrEntry, error) {
	shared := int(area[4])
	ids := area[xattrHeadSize:]
	if len(ids) < shared*xattrIDSize {
		return nil, fmt.Errorf("xattrs: %d shared ones in an area of %d bytes", shared, len(area))
	}
	var list []xattrEntry
	for i := range shared {
		e, err := fsys.sharedXattr(le.Uint32(ids[i*xattrIDSize:]))
		if err != nil {
			return nil, fmt.Errorf("shared xattr %d: %w", i, err)
		}
		list = append(list, e)
	}
	for b := ids[shared*xattrIDSize:]; len(b) > 0; {
		e, size, err := decodeXattr(b)
		if err != nil {
			return nil, fmt.Errorf("xattr %d: %w", len(list), err)
		}
		list = append(list, e)
		b = b[min(alignUp(size, xattrUnit), len(b)):]
	}
	return list, nil
}

// checkXattrs checks the names of one inode's attributes against each other and the inode's name filter.
func (fsys *FS) checkXattrs(list []xattrEntry, filter uint32) error {
	if fsys.super.Compat&compatXattrFilter == 0 || fsys.super.FilterReserved != 0 {
		filter = 0
	}
	type name struct {
		base uint8
		rest string
	}
	met := make(map[name]bool, len(list))
	for i, e := range list {
		base, rest, err := fsys.fullName(e)
		if err != nil {
			return fmt.Errorf("xattr %d: %w", i, err)
		}
		switch {
		case met[name{base, rest}]:
			return fmt.Errorf("xattr %q is there twice", xattrNames[base]+rest)
		case filter&xattrFilterBit(base, rest) != 0:
			return fmt.Errorf("xattr %q is there, but the name filter says it is not", xattrNames[base]+rest)
		}
		met[name{base, rest}] = true
	}
	return nil
}

// sharedXattr reads an attribute from the shared area, where ids count xattrUnits.
func (fsys *FS) sharedXattr(id uint32) (xattrEntry, error) {
	pos := uint64(fsys.super.XattrBlock)<<fsys.bits + uint64(id)*xattrUnit
	var head [xattrEntrySize]byte
	if err := fsys.readMeta(head[:], pos); err != nil {
		return xattrEntry{}, err
	}
	b := make([]byte, xattrLen(head[:]))
	if err := fsys.readMeta(b, pos); err != nil {
		return xattrEntry{}, err
	}
	e, _, err := decodeXattr(b)
	return e, err
}

// xattrLen is the length of the entry that begins with b, without padding.
func xattrLen(b []byte) int {
	return xattrEntrySize + int(b[0]) + int(le.Uint16(b[2:]))
}

// decodeXattr reads the entry at the beginning of b, whose memory it keeps, and returns its length without padding.
func decodeXattr(b []byte) (xattrEntry, int, error) {
	if len(b) < xattrEntrySize || len(b) < xattrLen(b) {
		return xattrEntry{}, 0, fmt.Errorf("entry does not fit into the %d bytes left", len(b))
	}
	size, value := xattrLen(b), xattrEntrySize+int(b[0])
	return xattrEntry{index: b[1], suffix: string(b[xattrEntrySize:value]), value: b[value:size:size]}, size, nil
}
