package erofs

import "fmt"

// readPrefixes reads the table of long xattr prefixes. Like the kernel, it does so whether or not the feature bit is set.
func (fsys *FS) readPrefixes() error {
	s := &fsys.super
	pos := uint64(s.PrefixStart) * xattrUnit
	for i := range int(s.PrefixCount) {
		var head [3]byte // struct erofs_xattr_long_prefix behind its length
		if err := fsys.readMeta(head[:], pos); err != nil {
			return fmt.Errorf("xattr prefix %d: %w", i, err)
		}
		size := int(le.Uint16(head[:]))
		if size < 1 || size > 1+maxXattrSuffix {
			return fmt.Errorf("xattr prefix %d: length %d: want 1 to %d", i, size, 1+maxXattrSuffix)
		}
		infix := make([]byte, size-1)
		if err := fsys.readMeta(infix, pos+uint64(len(head))); err != nil {
			return fmt.Errorf("xattr prefix %d: %w", i, err)
		}
		fsys.prefixes = append(fsys.prefixes, xattrPrefix{base: head[2], infix: string(infix)})
		pos += alignUp(uint64(2+size), xattrUnit)
	}
	if s.Compat&compatDigestXattrs == 0 {
		return nil
	}
	if int(s.DigestPrefix) >= len(fsys.prefixes) {
		return fmt.Errorf("digests have xattr prefix %d of %d", s.DigestPrefix, len(fsys.prefixes))
	}
	fsys.digest = &fsys.prefixes[s.DigestPrefix]
	if int(fsys.digest.base) >= len(xattrNames) {
		return fmt.Errorf("digests have an xattr prefix with the unknown number %d", fsys.digest.base)
	}
	return nil
}

// fullName returns the name of an attribute as the number of its first prefix, which xattrNames has, and the rest.
func (fsys *FS) fullName(e xattrEntry) (base uint8, rest string, err error) {
	base, rest = e.index, e.suffix
	if e.index&longPrefix != 0 {
		i := int(e.index &^ longPrefix)
		if i >= len(fsys.prefixes) {
			return 0, "", fmt.Errorf("name prefix %#x is not in the image's table of %d", e.index, len(fsys.prefixes))
		}
		base, rest = fsys.prefixes[i].base, fsys.prefixes[i].infix+e.suffix
	}
	if int(base) >= len(xattrNames) || base > 0 && xattrNames[base] == "" {
		return 0, "", fmt.Errorf("name prefix %#x is not supported", e.index)
	}
	if base == 0 && e.index&longPrefix == 0 {
		return 0, "", fmt.Errorf("name prefix %#x is not supported", e.index)
	}
	return base, rest, nil
}
