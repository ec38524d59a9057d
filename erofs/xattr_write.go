package erofs

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxXattrArea is the largest xattr area that i_xattr_icount can express, in bytes.
const maxXattrArea = xattrHeadSize + xattrUnit*(math.MaxUint16-1)

// splitXattr splits a name into the number of its prefix and the rest. Only prefixes that the kernel offers for EROFS are known.
func splitXattr(name string) (index uint8, suffix string, err error) {
	for i, p := range xattrNames {
		switch rest, ok := strings.CutPrefix(name, p); {
		case p == "" || p == "lustre." || !ok:
		case strings.HasSuffix(p, "."):
			if rest == "" {
				return 0, "", fmt.Errorf("xattr %q: nothing follows the prefix", name)
			}
			return uint8(i), rest, nil
		case rest == "":
			return uint8(i), "", nil
		}
	}
	return 0, "", fmt.Errorf("xattr %q: want a name in user., trusted. or security., or a POSIX ACL", name)
}

func xattrEntryLen(suffix string, value []byte) int {
	return alignUp(xattrEntrySize+len(suffix)+len(value), xattrUnit)
}

// prepareXattrs sorts and checks the attributes of one inode and returns the length of its xattr area in bytes.
func prepareXattrs(xs []Xattr) (int, error) {
	if len(xs) == 0 {
		return 0, nil
	}
	slices.SortFunc(xs, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	size := xattrHeadSize
	for i, x := range xs {
		_, suffix, err := splitXattr(x.Name)
		if err != nil {
			return 0, err
		}
		switch {
		case i > 0 && xs[i-1].Name == x.Name:
			return 0, fmt.Errorf("xattr %q is there twice", x.Name)
		case len(suffix) > math.MaxUint8 || strings.IndexByte(suffix, 0) >= 0:
			return 0, fmt.Errorf("xattr %.32q: name has %d bytes behind its prefix: want at most %d, without NUL", x.Name, len(suffix), math.MaxUint8)
		case len(x.Value) > math.MaxUint16:
			return 0, fmt.Errorf("xattr %q: value has %d bytes: the limit is %d", x.Name, len(x.Value), math.MaxUint16)
		}
		size += xattrEntryLen(suffix, x.Value)
		if size > maxXattrArea {
			return 0, fmt.Errorf("xattrs take more than %d bytes together", maxXattrArea)
		}
	}
	return size, nil
}

// encodeXattrs appends the xattr area of attributes that prepareXattrs accepted. All are stored in the inode: none are shared, and the name
// filter stays zero because the feature bit that gives it a meaning is not set.
func encodeXattrs(b []byte, xs []Xattr) ([]byte, error) {
	b = append(b, make([]byte, xattrHeadSize)...)
	for _, x := range xs {
		index, suffix, err := splitXattr(x.Name)
		if err != nil {
			return nil, err
		}
		b = append(b, uint8(len(suffix)), index)
		b = le.AppendUint16(b, uint16(len(x.Value)))
		b = append(b, suffix...)
		b = append(b, x.Value...)
		for len(b)%xattrUnit != 0 {
			b = append(b, 0)
		}
	}
	return b, nil
}
