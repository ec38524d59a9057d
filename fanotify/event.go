package fanotify

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Sizes of struct fanotify_event_metadata and struct fanotify_event_info_range in include/uapi/linux/fanotify.h.
const (
	metadataSize = 24
	rangeSize    = 24
	headerSize   = 4 // struct fanotify_event_info_header
)

// event is a kernel's question: may these bytes be read? Or, with mask FAN_ACCESS, its word that a thread has read.
//
//	 0  u32 event_len      length of the whole event
//	 4  u8  vers
//	 6  u16 metadata_len   where the information records begin
//	 8  u64 mask
//	16  s32 fd             names the event in the answer
//	20  s32 pid           of the thread, in a group with FAN_REPORT_TID; 0 when it has none in our namespace
//
// followed by records {u8 type, u8 0, u16 len}; that of type RANGE has u32 0, u64 offset, u64 count after its header.
type event struct {
	fd   int32
	off  int64
	n    int64 // 0 for a truncation, or when no range was given
	tid  int32
	over bool // a read is over: there is nothing to answer
}

// cut separates the events that one read has brought. The kernel gives as many as there is room for: in a slot that is one with a range, or two without, of which the first may
// well be followed by nothing.
func cut(b []byte) (first, second []byte) {
	if len(b) < metadataSize {
		return b, nil
	}
	n := int64(binary.NativeEndian.Uint32(b))
	if n < metadataSize || n > int64(len(b))-metadataSize || binary.NativeEndian.Uint32(b[n:]) == 0 {
		return b, nil
	}
	return b[:n], b[n:]
}

// No third event, and none behind one with a range, has room in a slot.
const _ = uint(metadataSize + min(2*metadataSize, metadataSize+rangeSize) - 1 - slotEvent)

// parseEvent reads the one event in b. The fd is valid whenever the metadata could be read, also in an event that is refused.
func parseEvent(b []byte) (event, error) {
	if len(b) < metadataSize {
		return event{fd: -1}, fmt.Errorf("fanotify event of %d bytes", len(b))
	}
	le := binary.NativeEndian
	length, meta := le.Uint32(b), le.Uint16(b[6:])
	mask := le.Uint64(b[8:])
	ev := event{fd: int32(le.Uint32(b[16:])), tid: int32(le.Uint32(b[20:])), over: mask == unix.FAN_ACCESS}
	switch {
	case b[4] != unix.FANOTIFY_METADATA_VERSION:
		return ev, fmt.Errorf("fanotify event of version %d, expected %d", b[4], unix.FANOTIFY_METADATA_VERSION)
	case int64(length) > int64(len(b)) || meta < metadataSize || uint32(meta) > length:
		return ev, fmt.Errorf("fanotify event of %d bytes claims %d, its metadata %d", len(b), length, meta)
	case ev.over:
		return ev, nil
	case mask&unix.FAN_PRE_ACCESS == 0:
		return ev, fmt.Errorf("fanotify event with mask %#x is neither FAN_PRE_ACCESS nor FAN_ACCESS", mask)
	}
	for rest := b[meta:length]; len(rest) > 0; {
		if len(rest) < headerSize {
			return ev, fmt.Errorf("fanotify event ends in %d stray bytes", len(rest))
		}
		n := le.Uint16(rest[2:])
		if int(n) < headerSize || int(n) > len(rest) {
			return ev, fmt.Errorf("fanotify record of %d bytes in a space of %d", n, len(rest))
		}
		if rest[0] == unix.FAN_EVENT_INFO_TYPE_RANGE {
			if n < rangeSize {
				return ev, fmt.Errorf("fanotify range record of %d bytes", n)
			}
			ev.off, ev.n = int64(le.Uint64(rest[8:])), int64(le.Uint64(rest[16:]))
			if ev.off < 0 || ev.n < 0 {
				return ev, fmt.Errorf("fanotify range of %d bytes at %d", uint64(ev.n), uint64(ev.off))
			}
		}
		rest = rest[n:]
	}
	return ev, nil
}

// answer writes struct fanotify_response. An event that nobody waits for any more, because its reader was killed, is no error.
func answer(group int, fd int32, response uint32) error {
	var b [8]byte
	binary.NativeEndian.PutUint32(b[:], uint32(fd))
	binary.NativeEndian.PutUint32(b[4:], response)
	for {
		switch _, err := unix.Write(group, b[:]); err {
		case nil, unix.ENOENT:
			return nil
		case unix.EINTR:
		default:
			return fmt.Errorf("answer fanotify event %d: %w", fd, err)
		}
	}
}

// inode identifies a file.
type inode struct{ dev, ino uint64 }

func inodeOf(fd int) (inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return inode{}, fmt.Errorf("stat descriptor %d: %w", fd, err)
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}
