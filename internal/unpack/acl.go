package unpack

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/pagein/pagein/erofs"
)

// Tags of POSIX ACL entries in extended attributes (Linux, include/uapi/linux/posix_acl.h).
const (
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

// aclRecord gives the PAX record in which GNU tar and libarchive keep an ACL, with numbers instead of names. It reports false for what is no ACL that can be
// written as text.
func aclRecord(x erofs.Xattr) (key, text string, ok bool) {
	switch x.Name {
	case "system.posix_acl_access":
		key = "SCHILY.acl.access"
	case "system.posix_acl_default":
		key = "SCHILY.acl.default"
	default:
		return "", "", false
	}
	const head, entry, version = 4, 8, 2
	le := binary.LittleEndian
	if len(x.Value) <= head || (len(x.Value)-head)%entry != 0 || le.Uint32(x.Value) != version {
		return "", "", false
	}
	var parts []string
	for b := x.Value[head:]; len(b) > 0; b = b[entry:] {
		who, ok := aclWho(le.Uint16(b), le.Uint32(b[4:]))
		perm := le.Uint16(b[2:])
		if !ok || perm > 7 {
			return "", "", false
		}
		parts = append(parts, who+":"+aclPerm(perm))
	}
	return key, strings.Join(parts, ","), true
}

func aclWho(tag uint16, id uint32) (string, bool) {
	switch tag {
	case aclUserObj:
		return "user:", true
	case aclUser:
		return "user:" + strconv.FormatUint(uint64(id), 10), true
	case aclGroupObj:
		return "group:", true
	case aclGroup:
		return "group:" + strconv.FormatUint(uint64(id), 10), true
	case aclMask:
		return "mask:", true
	case aclOther:
		return "other:", true
	}
	return "", false
}

func aclPerm(perm uint16) string {
	b := []byte("---")
	for i := range b {
		if perm&(4>>i) != 0 {
			b[i] = "rwx"[i]
		}
	}
	return string(b)
}
