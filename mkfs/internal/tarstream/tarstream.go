// Package tarstream reads tar streams: v7, ustar, GNU and PAX members with long names, extended attributes and all four encodings of
// sparse files.
//
// It differs from archive/tar in one point that its user cannot do without: it tells where the data of a sparse member lies. Expanded to
// zeros, a member of a few hundred bytes that claims 8 EiB would keep a converter busy for ever.
//
// Input is hostile until proven otherwise: numbers are checked for range, headers that are kept in memory are bounded, and a stream that
// ends inside a member is an error. Names are passed on as they stand; what "..", a leading "/" or a symbolic link in a path mean is for
// the user to decide.
package tarstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Types of members, as in the header's type flag.
const (
	TypeRegular = '0'
	TypeLink    = '1' // hard link to an earlier member
	TypeSymlink = '2'
	TypeChar    = '3'
	TypeBlock   = '4'
	TypeDir     = '5'
	TypeFifo    = '6'
)

const (
	blockSize = 512

	// maxMeta bounds what one member may keep in memory: its PAX records, long names and sparse map. Linux allows 64 KiB per extended
	// attribute; archive/tar has the same limit of 1 MiB.
	maxMeta = 1 << 20

	// maxXattrs and maxXattrBytes bound the extended attributes of one member, the bytes of names and values together: more than any file
	// system has, and EROFS has no room for more.
	maxXattrs     = 1024
	maxXattrBytes = 256 << 10

	// maxSpans bounds the runs of data of a sparse member.
	maxSpans = 1 << 20
)

// Header describes one member.
type Header struct {
	Type      byte   // one of the Type constants
	Name      string // as in the stream, not cleaned
	Link      string // target of symbolic and hard links
	Mode      uint32 // permissions with setuid, setgid and sticky: 0..07777
	UID, GID  uint32
	Size      int64 // regular files: length in bytes, holes included
	Mtime     int64 // seconds since 1970-01-01 UTC
	MtimeNsec uint32
	Major     uint32 // devices
	Minor     uint32
	Xattrs    []Xattr
	LeftOut   []LeftOut

	// Sparse says that only Spans hold data and the rest of Size is a hole. They are in ascending order and do not overlap.
	Sparse bool
	Spans  []Span
}

// LeftOut is a PAX record that says something about the file which cannot be expressed as an extended attribute.
type LeftOut struct {
	Key, Why string
	xattr    string // the attribute that would hold it, or ""
}

// Xattr is one extended attribute with its full name.
type Xattr struct {
	Name  string
	Value []byte
}

// Span is a run of bytes of a file.
type Span struct {
	Off, Len int64
}

// Reader reads members one after the other. It is not safe for concurrent use.
type Reader struct {
	r       io.Reader
	left    int64 // data of the current member not yet read
	pad     int64 // bytes to the next block border behind that data
	members int
	name    string // of the current member, for errors
	globals records
	blk     [blockSize]byte
	ended   bool // the end marker was read
}

// NewReader returns a reader of an uncompressed stream. It reads in small pieces: r should be buffered.
func NewReader(r io.Reader) *Reader {
	return &Reader{r: r}
}

// Terminated reports, after Next returned io.EOF, whether the stream had the two zero blocks that mark the end. Without them a stream
// that was cut exactly between two members looks complete.
func (r *Reader) Terminated() bool { return r.ended }

// Next skips what is left of the current member and returns the next one, or io.EOF.
func (r *Reader) Next() (*Header, error) {
	h, err := r.next()
	if err != nil && err != io.EOF {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the stream is truncated: %w", err)
		}
		if r.members == 0 {
			return nil, fmt.Errorf("read first tar member: %w", err)
		}
		return nil, fmt.Errorf("read tar member %d, after %q: %w", r.members+1, r.name, err)
	}
	if err != nil {
		return nil, io.EOF
	}
	r.members++
	r.name = h.Name
	return h, nil
}

// Read reads the stored data of the current member: of a sparse one the spans, one after the other.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if err == io.EOF {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("read data of tar member %d %q: %w", r.members, r.name, err)
	}
	return n, err
}

func (r *Reader) next() (*Header, error) {
	var ext extensions
	for {
		if err := r.skip(); err != nil {
			return nil, err
		}
		if err := r.readHeaderBlock(); err != nil {
			if err == io.EOF && ext.pending {
				err = fmt.Errorf("an extended header stands at the end: %w", io.ErrUnexpectedEOF)
			}
			return nil, err
		}
		raw := rawHeader(r.blk)
		size, err := raw.size()
		if err != nil {
			return nil, err
		}
		switch flag := raw.flag(); flag {
		case 'x', 'g', 'K', 'L':
			data, err := r.readMeta(size)
			if err != nil {
				return nil, err
			}
			if err := ext.add(flag, data, &r.globals); err != nil {
				return nil, err
			}
		case 'V': // volume label of GNU tar
			r.expect(size)
		default:
			h, err := r.member(&raw, size, &ext)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", raw.name(), err)
			}
			return h, nil
		}
	}
}

// readHeaderBlock reads a header into r.blk, or returns io.EOF at the end marker or at the end of the stream.
func (r *Reader) readHeaderBlock() error {
	if r.ended {
		return io.EOF
	}
	if _, err := io.ReadFull(r.r, r.blk[:]); err != nil {
		return err
	}
	if r.blk != [blockSize]byte{} {
		return checkSum(&r.blk)
	}
	switch _, err := io.ReadFull(r.r, r.blk[:]); {
	case err == io.EOF:
	case err != nil:
		return err
	case r.blk != [blockSize]byte{}:
		return errors.New("a single zero block stands before another member")
	}
	r.ended = true
	return io.EOF
}

// expect notes that size bytes of data follow.
func (r *Reader) expect(size int64) {
	r.left = size
	r.pad = -size & (blockSize - 1)
}

// skip moves behind the current member.
func (r *Reader) skip() error {
	for _, n := range []int64{r.left, r.pad} { // their sum may be more than an int64 holds
		if _, err := io.CopyN(io.Discard, r.r, n); err != nil {
			return unexpected(err)
		}
	}
	r.left, r.pad = 0, 0
	return nil
}

// readMeta reads the data of an extended header.
func (r *Reader) readMeta(size int64) ([]byte, error) {
	if size > maxMeta {
		return nil, fmt.Errorf("extended header of %d bytes: at most %d are accepted", size, maxMeta)
	}
	r.expect(size)
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, unexpected(err)
	}
	return data, nil
}

// unexpected turns the end of a stream where more must follow into the error that says so.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// cstring returns the bytes before the first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
