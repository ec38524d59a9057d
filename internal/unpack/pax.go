package unpack

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pagein/pagein/erofs"
)

// tarBlock is the unit of a tar stream, in bytes.
const tarBlock = 512

// Types of members (POSIX.1-2017, pax, ustar interchange format).
const (
	typeRegular = '0'
	typeLink    = '1'
	typeSymlink = '2'
	typeChar    = '3'
	typeBlock   = '4'
	typeDir     = '5'
	typeFifo    = '6'
	typePax     = 'x'
)

// errNoType is why sockets are left out.
var errNoType = errors.New("tar has no type for it")

// member is what precedes the data of a tar member.
type member struct {
	kind         byte
	name, link   string
	mode         uint32
	uid, gid     uint32
	size         int64 // bytes of data in the stream, with the sparse map
	mtime        int64
	nsec         uint32
	major, minor uint32
	xattrs       []erofs.Xattr
	sparse       []byte // the map of a sparse file, or nil
	realSize     int64  // of a sparse file
}

// write writes the PAX records that the member needs, and its header.
func (m *member) write(w io.Writer) error {
	records := m.records()
	if m.sparse != nil {
		m.name = sparseName(m.name)
	}
	if records != "" {
		x := member{kind: typePax, name: "PaxHeaders/" + base(m.name), mode: 0o644, size: int64(len(records))}
		padding := make([]byte, -len(records)&(tarBlock-1))
		if _, err := io.WriteString(w, string(x.header())+records+string(padding)); err != nil {
			return err
		}
	}
	_, err := w.Write(m.header())
	return err
}

// base is the last element of a path, for names that nobody needs.
func base(path string) string {
	path = strings.TrimSuffix(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// sparseName is what those see who do not know sparse members.
func sparseName(path string) string {
	dir := path[:len(path)-len(base(path))]
	return dir + "GNUSparseFile.0/" + base(path)
}

// Fields of a header, in bytes.
const (
	nameLen  = 100
	maxOctal = 1<<(3*7) - 1  // in 7 digits
	maxSize  = 1<<(3*11) - 1 // in 11 digits
)

// records are the PAX records of what does not fit into a header.
func (m *member) records() string {
	var b strings.Builder
	add := func(key, value string) { b.WriteString(record(key, value)) }
	if m.sparse != nil {
		add("GNU.sparse.major", "1")
		add("GNU.sparse.minor", "0")
		add("GNU.sparse.name", m.name)
		add("GNU.sparse.realsize", strconv.FormatInt(m.realSize, 10))
		if name := sparseName(m.name); long(name) {
			add("path", name)
		}
	} else if long(m.name) {
		add("path", m.name)
	}
	if long(m.link) {
		add("linkpath", m.link)
	}
	if m.size > maxSize {
		add("size", strconv.FormatInt(m.size, 10))
	}
	if m.uid > maxOctal {
		add("uid", strconv.FormatUint(uint64(m.uid), 10))
	}
	if m.gid > maxOctal {
		add("gid", strconv.FormatUint(uint64(m.gid), 10))
	}
	if m.nsec != 0 || m.mtime < 0 || m.mtime > maxSize {
		add("mtime", paxTime(m.mtime, m.nsec))
	}
	for _, x := range m.xattrs {
		if key, text, ok := aclRecord(x); ok {
			add(key, text)
		}
		// As GNU tar has it: "=" would end the key.
		add("SCHILY.xattr."+strings.NewReplacer("%", "%25", "=", "%3D").Replace(x.Name), string(x.Value))
	}
	return b.String()
}

// long reports whether a name needs a PAX record. Those with bytes beyond ASCII do, because only there it is said what they mean.
func long(name string) bool {
	if len(name) > nameLen {
		return true
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return true
		}
	}
	return false
}

// record encodes "LENGTH KEY=VALUE\n", where LENGTH counts its own digits.
func record(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for {
		if s := strconv.Itoa(n) + rest; len(s) == n {
			return s
		}
		n = len(strconv.Itoa(n)) + len(rest)
	}
}

// paxTime writes seconds with a fraction. Nanoseconds count upwards, so that second -2 and 500,000,000 ns is -1.5.
func paxTime(sec int64, nsec uint32) string {
	sign := ""
	if sec < 0 && nsec > 0 {
		sec, nsec = sec+1, 1_000_000_000-nsec
		if sec == 0 {
			sign = "-"
		}
	}
	s := sign + strconv.FormatInt(sec, 10)
	if nsec > 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%09d", nsec), "0")
	}
	return s
}

// header is the ustar header. What does not fit is cut off or 0: PAX records have it.
func (m *member) header() []byte {
	b := make([]byte, tarBlock)
	copy(b[:nameLen], m.name)
	octal(b[100:108], uint64(m.mode))
	octal(b[108:116], fitting(uint64(m.uid), maxOctal))
	octal(b[116:124], fitting(uint64(m.gid), maxOctal))
	octal(b[124:136], fitting(uint64(m.size), maxSize))
	octal(b[136:148], fitting(uint64(max(m.mtime, 0)), maxSize))
	b[156] = m.kind
	copy(b[157:157+nameLen], m.link)
	copy(b[257:], "ustar\x0000")
	octal(b[329:337], uint64(m.major))
	octal(b[337:345], uint64(m.minor))
	copy(b[148:156], "        ")
	sum := uint64(0)
	for _, c := range b {
		sum += uint64(c)
	}
	octal(b[148:155], sum)
	return b
}

func fitting(v, limit uint64) uint64 {
	if v > limit {
		return 0
	}
	return v
}

// octal fills a field with digits and a NUL.
func octal(field []byte, v uint64) {
	copy(field, fmt.Sprintf("%0*o", len(field)-1, v))
	field[len(field)-1] = 0
}

// sparseMap lists the spans of a file in GNU's format 1.0: decimal numbers, each on a line of its own, padded to a block.
func sparseMap(list []span, size int64) []byte {
	if k := len(list) - 1; k < 0 || list[k].off+list[k].len < size {
		list = append(list, span{size, 0}) // says how long the file is to those who only read the map
	}
	b := strconv.AppendInt(nil, int64(len(list)), 10)
	b = append(b, '\n')
	for _, s := range list {
		b = append(strconv.AppendInt(b, s.off, 10), '\n')
		b = append(strconv.AppendInt(b, s.len, 10), '\n')
	}
	return append(b, make([]byte, -len(b)&(tarBlock-1))...)
}
