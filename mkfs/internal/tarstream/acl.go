package tarstream

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Entries of POSIX ACLs as Linux keeps them in extended attributes (include/uapi/linux/posix_acl.h and posix_acl_xattr.h): a version, then
// for each entry a tag, permissions and an ID, sorted by tag and ID.
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
	aclNoID     = 1<<32 - 1
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// parseACL reads the text form "user::rwx,user:lisa:r-x:502,group::r-x,mask::r-x,other::---" with commas or line ends. A name counts for
// nothing: the ID stands behind the permissions or in its place. Everything that is not a valid ACL, or needs a user database, is
// an error.
func parseACL(text string) ([]aclEntry, error) {
	var entries []aclEntry
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		e, ok := parseACLEntry(strings.TrimSpace(part))
		if !ok {
			return nil, fmt.Errorf("entry %.100q is none, or has a name without a number", part)
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b aclEntry) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id)) })
	count := map[uint16]int{}
	for i, e := range entries {
		if i > 0 && entries[i-1].tag == e.tag && entries[i-1].id == e.id {
			return nil, errors.New("an entry is there twice")
		}
		count[e.tag]++
	}
	named := count[aclUser]+count[aclGroup] > 0
	if count[aclUserObj] != 1 || count[aclGroupObj] != 1 || count[aclOther] != 1 || (count[aclMask] != 1 && named) {
		return nil, errors.New("an entry is missing")
	}
	return entries, nil
}

func parseACLEntry(s string) (e aclEntry, ok bool) {
	fields := strings.Split(s, ":")
	if len(fields) < 3 || len(fields) > 4 {
		return e, false
	}
	kind, name, perm := fields[0], fields[1], fields[2]
	named := name != "" || len(fields) == 4
	switch {
	case kind == "user" && named:
		e.tag = aclUser
	case kind == "user":
		e.tag = aclUserObj
	case kind == "group" && named:
		e.tag = aclGroup
	case kind == "group":
		e.tag = aclGroupObj
	case kind == "mask" && !named:
		e.tag = aclMask
	case kind == "other" && !named:
		e.tag = aclOther
	default:
		return e, false
	}
	e.id = aclNoID
	if named {
		id, err := decimalID(fields[len(fields)-1])
		if len(fields) == 3 {
			id, err = decimalID(name)
		}
		if err != nil {
			return e, false
		}
		e.id = id
	}
	e.perm, ok = parseACLPerm(perm)
	return e, ok
}

// parseACLPerm reads "rwx" with "-" for what is not allowed.
func parseACLPerm(s string) (perm uint16, ok bool) {
	if len(s) != 3 {
		return 0, false
	}
	for i := range 3 {
		switch s[i] {
		case "rwx"[i]:
			perm |= 4 >> i
		case '-':
		default:
			return 0, false
		}
	}
	return perm, true
}

func encodeACL(entries []aclEntry) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}
