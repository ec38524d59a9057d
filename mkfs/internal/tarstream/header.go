package tarstream

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// rawHeader is the 512-byte header block of POSIX.1-1988 with the variants of GNU tar and star:
//
//	  0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type 1
//	157 link 100 | 257 magic 6 | 263 version 2 | 265 user 32 | 297 group 32 | 329 major 8 | 337 minor 8
//	345 prefix 155 (ustar; 131 with "tar\0" at 508: star)
//	386 sparse 4*(12+12) | 482 extended 1 | 483 real size 12 (old GNU)
type rawHeader [blockSize]byte

func (h *rawHeader) flag() byte { return h[156] }

func (h *rawHeader) size() (int64, error) {
	n, err := number(h[124:136])
	if err != nil {
		return 0, fmt.Errorf("size: %w", err)
	}
	if n < 0 {
		return 0, fmt.Errorf("size %d is negative", n)
	}
	return n, nil
}

func (h *rawHeader) name() string {
	name := cstring(h[:100])
	if string(h[257:263]) != "ustar\x00" {
		return name
	}
	prefix := h[345:500]
	if string(h[508:512]) == "tar\x00" {
		prefix = h[345:476]
	}
	if p := cstring(prefix); p != "" {
		return p + "/" + name
	}
	return name
}

// hasDevice says whether the fields from offset 329 on exist: in v7 headers they may hold anything.
func (h *rawHeader) hasDevice() bool { return string(h[257:262]) == "ustar" }

// checkSum verifies the sum of all bytes with the checksum field taken as spaces. Some old writers summed signed bytes.
func checkSum(b *[blockSize]byte) error {
	want, err := number(b[148:156])
	var unsigned, signed int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	if err != nil || (want != unsigned && want != signed) {
		return errors.New("this is not a tar header: the checksum is wrong")
	}
	return nil
}

var errRange = errors.New("number out of range")

// number reads an octal field, padded with spaces or NULs, or one in GNU's base-256 form.
func number(b []byte) (int64, error) {
	if b[0]&0x80 != 0 {
		return base256(b)
	}
	s := strings.Trim(string(b), " \x00")
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimRight(s, " ")
	var n int64
	for _, c := range []byte(s) {
		if c < '0' || c > '7' {
			return 0, fmt.Errorf("%q is no octal number", b)
		}
		if n > math.MaxInt64>>3 {
			return 0, errRange
		}
		n = n<<3 | int64(c-'0')
	}
	return n, nil
}

// base256 reads a big-endian two's complement number whose top bit is a mark.
func base256(b []byte) (int64, error) {
	negative := b[0]&0x40 != 0
	var n uint64
	if negative {
		n = math.MaxUint64
	}
	for i, c := range b {
		if i == 0 {
			c &= 0x7f
			if negative {
				c |= 0x80
			}
		}
		if top := n >> 55; top != 0 && top != 1<<9-1 {
			return 0, errRange
		}
		n = n<<8 | uint64(c)
	}
	if int64(n) < 0 != negative {
		return 0, errRange
	}
	return int64(n), nil
}

// member makes the Header of a member from its header block and the extensions that stood before it.
func (r *Reader) member(raw *rawHeader, size int64, ext *extensions) (*Header, error) {
	h := &Header{Type: raw.flag(), Name: raw.name(), Link: cstring(raw[157:257]), Size: size}
	if err := raw.attributes(h); err != nil {
		return nil, err
	}
	if ext.longName != "" {
		h.Name = ext.longName
	}
	if ext.longLink != "" {
		h.Link = ext.longLink
	}
	var sparse sparseRecords
	for _, rec := range r.globals.merge(ext.records) {
		if err := h.apply(rec.key, rec.value, &sparse); err != nil {
			return nil, fmt.Errorf("PAX record %s: %w", rec.key, err)
		}
	}
	h.forgive()
	if sparse.name != "" {
		h.Name = sparse.name
	}
	stored := h.Size // what follows in the stream
	switch h.Type {
	case 0, '7', 'S':
		h.Type = TypeRegular
	case 'D': // a directory of GNU tar with a list of names as its data
		h.Type = TypeDir
		h.Size = 0
	case TypeLink, TypeSymlink, TypeChar, TypeBlock, TypeDir, TypeFifo:
		// Some writers give these a size, of which no data follows.
		h.Size, stored = 0, 0
	case TypeRegular:
	case 'M':
		return nil, errors.New("continued from another volume: multi-volume archives are not supported")
	default:
		return nil, fmt.Errorf("member type %q is not supported", h.Type)
	}
	r.expect(stored)
	if h.Type == TypeRegular {
		if err := r.sparse(h, raw, &sparse); err != nil {
			return nil, fmt.Errorf("sparse file: %w", err)
		}
	}
	// Before ustar a directory was a file whose name ends in a slash.
	if h.Type == TypeRegular && strings.HasSuffix(h.Name, "/") {
		h.Type, h.Size, h.Sparse, h.Spans = TypeDir, 0, false, nil
	}
	return h, nil
}

// attributes reads mode, owner, time and device number.
func (h *rawHeader) attributes(to *Header) error {
	var mode, uid, gid int64
	fields := []struct {
		name string
		raw  []byte
		to   *int64
	}{{"mode", h[100:108], &mode}, {"uid", h[108:116], &uid}, {"gid", h[116:124], &gid}, {"mtime", h[136:148], &to.Mtime}}
	var major, minor int64
	if h.hasDevice() && (to.Type == TypeChar || to.Type == TypeBlock) {
		fields = append(fields, []struct {
			name string
			raw  []byte
			to   *int64
		}{{"major", h[329:337], &major}, {"minor", h[337:345], &minor}}...)
	}
	for _, f := range fields {
		n, err := number(f.raw)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		*f.to = n
	}
	to.Mode = uint32(mode & 0o7777)
	if major < 0 || major > 1<<12-1 || minor < 0 || minor > 1<<20-1 {
		return fmt.Errorf("device number %d:%d: Linux has 4096 majors and 1048576 minors", major, minor)
	}
	to.Major, to.Minor = uint32(major), uint32(minor)
	var err error
	if to.UID, err = id(uid); err != nil {
		return fmt.Errorf("uid: %w", err)
	}
	if to.GID, err = id(gid); err != nil {
		return fmt.Errorf("gid: %w", err)
	}
	return nil
}

// id checks an owner. 2^32-1 is no owner: chown takes it as "leave as it is".
func id(n int64) (uint32, error) {
	if n < 0 || n >= math.MaxUint32 {
		return 0, fmt.Errorf("%d is outside 0 to %d", n, uint32(math.MaxUint32-1))
	}
	return uint32(n), nil
}
