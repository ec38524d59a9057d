package tarstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// record is one "key=value" of a PAX header.
type record struct{ key, value string }

// records are in the order of the stream: GNU's first sparse format repeats keys.
type records []record

// extensions are what stood before a member to extend its header.
type extensions struct {
	records  records
	longName string
	longLink string
	pending  bool
}

// add takes the data of one extended header of type flag.
func (e *extensions) add(flag byte, data []byte, globals *records) error {
	switch flag {
	case 'L':
		e.pending, e.longName = true, cstring(data)
	case 'K':
		e.pending, e.longLink = true, cstring(data)
	case 'x':
		recs, err := parsePAX(data)
		if err != nil {
			return err
		}
		e.pending, e.records = true, recs
	case 'g':
		recs, err := parsePAX(data)
		if err != nil {
			return err
		}
		*globals = globals.merge(recs.global())
		return globals.bound()
	}
	return nil
}

// parsePAX splits the data of a PAX header: "LENGTH KEY=VALUE\n", the length counting the whole record in decimal.
func parsePAX(data []byte) (records, error) {
	var recs records
	for s := string(data); s != ""; {
		sp := strings.IndexByte(s, ' ')
		if sp < 1 || sp > 8 {
			return nil, errors.New("PAX header: a record has no length")
		}
		n, err := strconv.ParseUint(s[:sp], 10, 32)
		if err != nil || n < uint64(sp)+3 || n > uint64(len(s)) || s[n-1] != '\n' {
			return nil, fmt.Errorf("PAX header: record length %q is wrong", s[:sp])
		}
		key, value, ok := strings.Cut(s[sp+1:n-1], "=")
		if !ok || key == "" || strings.IndexByte(key, 0) >= 0 {
			return nil, fmt.Errorf("PAX header: record %q has no key", s[sp+1:n-1])
		}
		recs = append(recs, record{key, value})
		s = s[n:]
	}
	return recs, nil
}

// global returns what a global header may say about all members: one record for each key that every one of them can have. Extended
// attributes and sparse maps are left out, as container runtimes do: nobody writes them there, and a few bytes of stream would cost each
// member that follows a megabyte.
func (g records) global() records {
	var kept records
	for i, rec := range g {
		switch rec.key {
		case "path", "linkpath", "size", "uid", "gid", "mtime":
			if later := g[i+1:]; !slices.ContainsFunc(later, func(o record) bool { return o.key == rec.key }) {
				kept = append(kept, record{rec.key, strings.Clone(rec.value)}) // not all of the header
			}
		}
	}
	return kept
}

// merge returns the records of g that r does not override, then those of r. A value that is empty takes a global one back.
func (g records) merge(r records) records {
	if len(g) == 0 {
		return r
	}
	own := make(map[string]bool, len(r))
	for _, rec := range r {
		own[rec.key] = true
	}
	var all records
	for _, rec := range g {
		if !own[rec.key] {
			all = append(all, rec)
		}
	}
	return append(all, r...)
}

// bound refuses global records that would grow without end.
func (g records) bound() error {
	total := 0
	for _, rec := range g {
		total += len(rec.key) + len(rec.value)
	}
	if total > maxMeta {
		return fmt.Errorf("global PAX headers of more than %d bytes", maxMeta)
	}
	return nil
}

const (
	schilyXattr     = "SCHILY.xattr."
	libarchiveXattr = "LIBARCHIVE.xattr."

	// What GNU tar, star and libarchive write instead of the attributes in which Linux keeps these.
	selinux    = "RHT.security.selinux"
	aclAccess  = "SCHILY.acl.access"
	aclDefault = "SCHILY.acl.default"
	aclNFS     = "SCHILY.acl.ace" // NFSv4: no file system of Linux has it
)

// apply lets one PAX record override the header. Keys that do not matter here are passed over.
func (h *Header) apply(key, value string, sparse *sparseRecords) (err error) {
	if name, ok := strings.CutPrefix(key, schilyXattr); ok {
		// GNU tar escapes "=" and "%" in names, as "=" ends the key.
		return h.setXattr(strings.NewReplacer("%3D", "=", "%25", "%").Replace(name), []byte(value))
	}
	if name, ok := strings.CutPrefix(key, libarchiveXattr); ok {
		return h.setLibarchiveXattr(name, value)
	}
	if strings.HasPrefix(key, "GNU.sparse.") {
		return sparse.apply(key, value)
	}
	if value == "" {
		return nil
	}
	switch key {
	case "path":
		h.Name = value
	case "linkpath":
		h.Link = value
	case "size":
		h.Size, err = decimal(value)
	case "uid":
		h.UID, err = decimalID(value)
	case "gid":
		h.GID, err = decimalID(value)
	case "mtime":
		h.Mtime, h.MtimeNsec, err = paxTime(value)
	case selinux:
		return h.setXattr("security.selinux", append([]byte(value), 0)) // as setfilecon(3) stores it
	case aclAccess:
		return h.setACL(key, "system.posix_acl_access", value)
	case aclDefault:
		return h.setACL(key, "system.posix_acl_default", value)
	case aclNFS:
		h.leaveOut(key, "", "it is an ACL of NFSv4")
	}
	return err
}

// setXattr adds or replaces an extended attribute.
func (h *Header) setXattr(name string, value []byte) error {
	total := len(name) + len(value)
	at := len(h.Xattrs)
	for i, x := range h.Xattrs {
		if x.Name == name {
			at = i
			continue
		}
		total += len(x.Name) + len(x.Value)
	}
	if total > maxXattrBytes || at >= maxXattrs {
		return fmt.Errorf("%d extended attributes of %d bytes: at most %d of %d bytes are accepted", at+1, total, maxXattrs, maxXattrBytes)
	}
	if at < len(h.Xattrs) {
		h.Xattrs[at].Value = value
	} else {
		h.Xattrs = append(h.Xattrs, Xattr{name, value})
	}
	return nil
}

// setACL takes an ACL in text form. One that nobody else could read is left out.
func (h *Header) setACL(key, name, text string) error {
	entries, err := parseACL(text)
	if err != nil {
		h.leaveOut(key, name, err.Error())
		return nil
	}
	if name == "system.posix_acl_access" && len(entries) == 3 {
		return nil // the mode says the same, and Linux stores no more then
	}
	return h.setXattr(name, encodeACL(entries))
}

func (h *Header) leaveOut(key, xattr, why string) {
	if !slices.ContainsFunc(h.LeftOut, func(l LeftOut) bool { return l.Key == key }) {
		h.LeftOut = append(h.LeftOut, LeftOut{key, why, xattr})
	}
}

// forgive forgets what was left out but stands in another record in a form that can be kept.
func (h *Header) forgive() {
	h.LeftOut = slices.DeleteFunc(h.LeftOut, func(l LeftOut) bool {
		return slices.ContainsFunc(h.Xattrs, func(x Xattr) bool { return x.Name == l.xattr })
	})
}

// setLibarchiveXattr takes libarchive's own form, which bsdtar writes beside or instead of SCHILY's.
func (h *Header) setLibarchiveXattr(name, value string) error {
	name, err := url.PathUnescape(name)
	if err != nil {
		return err
	}
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return err
	}
	return h.setXattr(name, decoded)
}

// decimal reads a number from 0 to 2^63-1.
func decimal(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is no decimal number", s)
	}
	return int64(n), nil
}

func decimalID(s string) (uint32, error) {
	n, err := decimal(s)
	if err != nil {
		return 0, err
	}
	return id(n)
}

// paxTime reads seconds with an optional fraction. Digits beyond nanoseconds are cut off. The result counts nanoseconds upwards, so -1.5
// is second -2 and 500,000,000 ns.
func paxTime(s string) (sec int64, nsec uint32, err error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err = strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%q is no time", s)
	}
	digits := (fraction + "000000000")[:9]
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strings.Trim(fraction, "0123456789") != "" {
		return 0, 0, fmt.Errorf("%q is no time", s)
	}
	if n > 0 && strings.HasPrefix(whole, "-") {
		return sec - 1, uint32(1e9 - n), nil
	}
	return sec, uint32(n), nil
}
