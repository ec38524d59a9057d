package erofs

import (
	"fmt"
	"math"
	"strings"
)

// xattrNames are the name prefixes by their number in an xattr entry. The two ACL names are complete. Number 0 stands for the empty prefix: the
// kernel neither lists nor returns attributes that have it.
var xattrNames = [...]string{
	1: "user.",
	2: "system.posix_acl_access",
	3: "system.posix_acl_default",
	4: "trusted.",
	5: "lustre.",
	6: "security.",
}

const (
	longPrefix     = 0x80 // in the prefix number of an entry: the rest is an index into the image's own table of prefixes
	maxXattrSuffix = math.MaxUint8
	maxXattrValue  = math.MaxUint16
)

// xattrEntry is an attribute as entries on disk have it.
type xattrEntry struct {
	index  uint8  // number of the name's prefix
	suffix string // the rest of the name
	value  []byte
}

// newXattrEntry checks an attribute and splits its name. Only prefixes that the kernel offers for EROFS are known.
func newXattrEntry(x Xattr) (xattrEntry, error) {
	index, suffix, err := splitXattr(x.Name)
	switch {
	case err != nil:
		return xattrEntry{}, err
	case len(suffix) > maxXattrSuffix || strings.IndexByte(suffix, 0) >= 0:
		return xattrEntry{}, fmt.Errorf("xattr %.32q: name has %d bytes behind its prefix: want at most %d, without NUL", x.Name, len(suffix), maxXattrSuffix)
	case len(x.Value) > maxXattrValue:
		return xattrEntry{}, fmt.Errorf("xattr %q: value has %d bytes: the limit is %d", x.Name, len(x.Value), maxXattrValue)
	}
	return xattrEntry{index: index, suffix: suffix, value: x.Value}, nil
}

// size is the length of the entry on disk in bytes.
func (e xattrEntry) size() int {
	return alignUp(xattrEntrySize+len(e.suffix)+len(e.value), xattrUnit)
}

// encode appends the entry to b, which is padded like all of the xattr area.
func (e xattrEntry) encode(b []byte) []byte {
	b = append(b, uint8(len(e.suffix)), e.index)
	b = le.AppendUint16(b, uint16(len(e.value)))
	b = append(b, e.suffix...)
	b = append(b, e.value...)
	for len(b)%xattrUnit != 0 {
		b = append(b, 0)
	}
	return b
}

// splitXattr splits a name into the number of its prefix and the rest.
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

// The name filter in the head of an xattr area has 32 bits. A set bit says that no name of the inode hashes to it, so that the kernel (6.6
// and later) need not look through the attributes for a name that is not there. Source: struct erofs_xattr_ibody_header.
const (
	xattrFilterSeed  = 0x25BBE08F // EROFS_XATTR_FILTER_SEED
	xattrFilterEmpty = math.MaxUint32
)

// xattrFilterBit is the bit of the name filter that a name clears. rest is what follows the numbered prefix, an infix from the image's
// own table of prefixes included.
func xattrFilterBit(index uint8, rest string) uint32 {
	return 1 << (xxh32(rest, xattrFilterSeed+uint32(index)) % 32)
}
