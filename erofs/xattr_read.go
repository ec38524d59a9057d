package erofs

import "fmt"

// xattrs reads the attributes of an inode: first the shared ones, which are elsewhere in the image, then those in the inode.
func (n *node) xattrs() ([]Xattr, error) {
	if n.XattrSize == 0 {
		return nil, nil
	}
	area := make([]byte, n.XattrSize)
	if err := n.fsys.readMeta(area, uint64(n.body-int64(n.XattrSize))); err != nil {
		return nil, n.errorf("xattrs: %w", err)
	}
	shared := int(area[4])
	ids := area[xattrHeadSize:]
	if len(ids) < shared*xattrUnit {
		return nil, n.errorf("xattrs: %d shared ones in an area of %d bytes", shared, len(area))
	}
	var list []Xattr
	for i := range shared {
		x, err := n.fsys.sharedXattr(le.Uint32(ids[i*xattrUnit:]))
		if err != nil {
			return nil, n.errorf("shared xattr %d: %w", i, err)
		}
		list = append(list, x)
	}
	for b := ids[shared*xattrUnit:]; len(b) > 0; {
		x, size, err := decodeXattr(b)
		if err != nil {
			return nil, n.errorf("xattr %d: %w", len(list), err)
		}
		list = append(list, x)
		b = b[min(alignUp(size, xattrUnit), len(b)):]
	}
	return list, nil
}

// sharedXattr reads an attribute from the shared area, where ids count xattrUnits.
func (fsys *FS) sharedXattr(id uint32) (Xattr, error) {
	pos := uint64(fsys.super.XattrBlock)<<fsys.bits + uint64(id)*xattrUnit
	var head [xattrEntrySize]byte
	if err := fsys.readMeta(head[:], pos); err != nil {
		return Xattr{}, err
	}
	b := make([]byte, xattrLen(head[:]))
	if err := fsys.readMeta(b, pos); err != nil {
		return Xattr{}, err
	}
	x, _, err := decodeXattr(b)
	return x, err
}

// xattrLen is the length of the entry that begins with b, without padding.
func xattrLen(b []byte) int {
	return xattrEntrySize + int(b[0]) + int(le.Uint16(b[2:]))
}

// decodeXattr reads the entry at the beginning of b and returns its length without padding.
func decodeXattr(b []byte) (Xattr, int, error) {
	if len(b) < xattrEntrySize || len(b) < xattrLen(b) {
		return Xattr{}, 0, fmt.Errorf("entry does not fit into the %d bytes left", len(b))
	}
	size, index := xattrLen(b), int(b[1])
	if index >= len(xattrNames) || xattrNames[index] == "" {
		return Xattr{}, 0, fmt.Errorf("name prefix %#x is not supported", index)
	}
	value := xattrEntrySize + int(b[0])
	return Xattr{
		Name:  xattrNames[index] + string(b[xattrEntrySize:value]),
		Value: append([]byte{}, b[value:size]...),
	}, size, nil
}
