package erofs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// DefaultDigestXattr is the name under which mkfs.erofs stores content digests. It lies in no name space that the kernel offers, so no
// program sees the attribute.
const DefaultDigestXattr = "erofs.fingerprint.v1"

// digestHead stands before the digest in an attribute's value. Linux compares values as they are; this form is the one that mkfs.erofs 1.9
// writes and fsck.erofs verifies.
const digestHead = "sha256:"

// xattrPrefix is an entry of an image's own table of name prefixes. Write makes at most one, for digests, whose attributes have no other name.
type xattrPrefix struct {
	base  uint8 // number of the prefix that the name begins with, 0 for none
	infix string
}

// newDigestPrefix checks WriteOptions.DigestXattr.
func newDigestPrefix(name string) (*xattrPrefix, error) {
	if name == "" {
		return nil, nil
	}
	p := &xattrPrefix{infix: name}
	if base, rest, err := splitXattr(name); err == nil {
		p.base, p.infix = base, rest
	}
	if p.infix == "" || len(p.infix) > maxXattrSuffix || strings.IndexByte(name, 0) >= 0 || strings.HasSuffix(name, ".") {
		return nil, fmt.Errorf("xattr %q for digests: want a name of at most %d bytes without NUL that is no ACL and does not end in a dot", name, maxXattrSuffix)
	}
	return p, nil
}

// encode returns the prefix as a table of one: struct erofs_xattr_long_prefix behind its length.
func (p *xattrPrefix) encode() []byte {
	b := le.AppendUint16(nil, uint16(1+len(p.infix)))
	b = append(b, p.base)
	return append(b, p.infix...)
}

// entry returns the attribute that holds n's digest, if it has one. The kernel asks for those of regular files only, and sharing the pages of
// empty ones gains nothing.
func (p *xattrPrefix) entry(n *Inode) (xattrEntry, bool) {
	if p == nil || n.Digest == nil || n.Mode&unix.S_IFMT != unix.S_IFREG || n.Size == 0 {
		return xattrEntry{}, false
	}
	return xattrEntry{index: longPrefix, value: append([]byte(digestHead), n.Digest[:]...)}, true
}

// owns reports whether an attribute of the tree has the name of digests. The kernel would take its value for one and show the pages of
// another file.
func (p *xattrPrefix) owns(e xattrEntry) bool {
	return p != nil && e.index == p.base && e.suffix == p.infix
}

// filterBit is xattrFilterBit for an entry that Write makes.
func (p *xattrPrefix) filterBit(e xattrEntry) uint32 {
	if e.index == longPrefix {
		return xattrFilterBit(p.base, p.infix)
	}
	return xattrFilterBit(e.index, e.suffix)
}
