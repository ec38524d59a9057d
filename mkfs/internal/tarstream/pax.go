package tarstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
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
		*globals = globals.merge(recs)
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
)

// apply lets one PAX record override the header. Keys that do not matter here are passed over.
func (h *Header) apply(key, value string, sparse *sparseRecords) (err error) {
	if name, ok := strings.CutPrefix(key, schilyXattr); ok {
		// GNU tar escapes "=" and "%" in names, as "=" ends the key.
		h.setXattr(strings.NewReplacer("%3D", "=", "%25", "%").Replace(name), []byte(value))
		return nil
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
	}
	return err
}

func (h *Header) setXattr(name string, value []byte) {
	for i := range h.Xattrs {
		if h.Xattrs[i].Name == name {
			h.Xattrs[i].Value = value
			return
		}
	}
	h.Xattrs = append(h.Xattrs, Xattr{name, value})
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
	h.setXattr(name, decoded)
	return nil
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
