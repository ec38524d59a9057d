package cachefiles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// Messages of the on-demand protocol (include/uapi/linux/cachefiles.h, Linux 5.19), in the machine's byte order:
//
//	 0  u32 msg_id
//	 4  u32 opcode
//	 8  u32 len            of the whole message
//	12  u32 object_id
//	16  payload
//
//	OPEN:   16 u32 volume_key_size (with a final NUL), 20 u32 cookie_key_size, 24 u32 fd, 28 u32 flags (0), 32 volume_key, cookie_key
//	CLOSE:  nothing
//	READ:   16 u64 off, 24 u64 len
const (
	opOpen  = 0
	opClose = 1
	opRead  = 2

	headerSize   = 16
	openSize     = 32
	readSize     = 32
	maxMessage   = 1024 // CACHEFILES_MSG_MAX_SIZE
	maxCookieKey = 252  // longer ones make the kernel stop with BUG: its file name would exceed NAME_MAX
)

// message is one request of the kernel.
type message struct {
	id     uint32
	op     uint32
	object uint32

	// OPEN
	volume string // without the NUL
	cookie string
	fd     int

	// READ: a range of the object, off+n does not overflow
	off int64
	n   int64
}

var errShort = errors.New("cachefiles message is too short")

// parseMessage reads the message in b. The fd of an OPEN is also set, and must be closed, when the rest of the message is refused; else it is -1.
func parseMessage(b []byte) (message, error) {
	m := message{fd: -1}
	if len(b) < headerSize {
		return m, fmt.Errorf("%w: %d bytes", errShort, len(b))
	}
	ne := binary.NativeEndian
	m.id, m.op, m.object = ne.Uint32(b), ne.Uint32(b[4:]), ne.Uint32(b[12:])
	if n := ne.Uint32(b[8:]); int64(n) != int64(len(b)) {
		return m, fmt.Errorf("cachefiles message of %d bytes says it has %d", len(b), n)
	}
	switch m.op {
	case opOpen:
		return m, m.parseOpen(b)
	case opClose:
		return m, nil
	case opRead:
		return m, m.parseRead(b)
	}
	return m, fmt.Errorf("cachefiles message with unknown opcode %d", m.op)
}

func (m *message) parseOpen(b []byte) error {
	if len(b) < openSize {
		return fmt.Errorf("%w: OPEN of %d bytes", errShort, len(b))
	}
	ne := binary.NativeEndian
	if fd := ne.Uint32(b[24:]); fd <= math.MaxInt32 {
		m.fd = int(fd)
	}
	volume, cookie := uint64(ne.Uint32(b[16:])), uint64(ne.Uint32(b[20:]))
	if volume+cookie != uint64(len(b)-openSize) {
		return fmt.Errorf("cachefiles OPEN of %d bytes has keys of %d and %d bytes", len(b), volume, cookie)
	}
	key, terminated := strings.CutSuffix(string(b[openSize:openSize+volume]), "\x00")
	if !terminated {
		return errors.New("cachefiles OPEN with a volume key that does not end in NUL")
	}
	m.volume, m.cookie = key, string(b[openSize+volume:])
	if m.fd < 0 {
		return errors.New("cachefiles OPEN without a descriptor")
	}
	return nil
}

func (m *message) parseRead(b []byte) error {
	if len(b) < readSize {
		return fmt.Errorf("%w: READ of %d bytes", errShort, len(b))
	}
	ne := binary.NativeEndian
	off, n := ne.Uint64(b[16:]), ne.Uint64(b[24:])
	if off > math.MaxInt64 || n == 0 || n > math.MaxInt64-off {
		return fmt.Errorf("cachefiles READ of %d bytes at %d", n, off)
	}
	m.off, m.n = int64(off), int64(n)
	return nil
}

// checkKey refuses names that the kernel would not take as a cookie key, or would store under another name.
func checkKey(key string) error {
	if key == "" || len(key) > maxCookieKey {
		return fmt.Errorf("%q cannot name a cache file: it has %d bytes, 1 to %d are possible", key, len(key), maxCookieKey)
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c >= 0x7f || c == '/' {
			return fmt.Errorf("%q cannot name a cache file: it contains %q", key, c)
		}
	}
	return nil
}
