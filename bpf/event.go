package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"
)

// Kind is how a page was touched.
type Kind uint8

// The kinds; "enum kind" in touch.bpf.c.
const (
	Read   Kind = 0 // a read, splice, sendfile or exec asked for it
	Fault  Kind = 1 // a page fault was about it
	Around Kind = 2 // the kernel mapped it beside one that a page fault was about: maybe it was used, maybe not
)

// String is a word for the kind.
func (k Kind) String() string {
	switch k {
	case Read:
		return "read"
	case Fault:
		return "fault"
	case Around:
		return "around"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Touch is the first touch of some pages, of 4096 bytes, within 64 of one file.
type Touch struct {
	Time   time.Duration // CLOCK_MONOTONIC
	Device uint64        // of the superblock, as stat(2) gives it
	Inode  uint64        // EROFS: the nid
	Page   uint64        // index of the first page that Pages may name: a multiple of 64
	Pages  uint64        // bit i: Page+i was touched
	Cached uint64        // bit i: and the page cache had it when the recording began; without: it was brought in since
	Cgroup uint64        // of version 2: the inode number of its directory
	PID    uint32        // the thread, in the initial PID namespace
	TGID   uint32        // its process
	Kind   Kind
	Comm   string // the thread's name, at most 15 bytes
}

// Count is how many pages were touched.
func (t Touch) Count() int { return bits.OnesCount64(t.Pages) }

// eventSize is the length of "struct event" in touch.bpf.c.
const eventSize = 80

// decode reads an event. Its numbers are in the machine's order, which is little-endian wherever this is compiled. comm is that of the event before, and mostly of this one: then it is not copied.
func decode(b []byte, comm string) (Touch, error) {
	if len(b) < eventSize {
		return Touch{}, fmt.Errorf("decode an event: it has %d bytes, not %d", len(b), eventSize)
	}
	le := binary.LittleEndian
	if name, _, _ := bytes.Cut(b[64:80], []byte{0}); string(name) != comm {
		comm = string(name)
	}
	return Touch{
		Time: time.Duration(le.Uint64(b)), Inode: le.Uint64(b[8:]), Page: le.Uint64(b[16:]), Pages: le.Uint64(b[24:]), Cached: le.Uint64(b[32:]), Cgroup: le.Uint64(b[40:]), // #nosec G115 -- nanoseconds since boot
		Device: userDevice(le.Uint32(b[48:])), PID: le.Uint32(b[52:]), TGID: le.Uint32(b[56:]), Kind: Kind(b[60]), Comm: comm,
	}, nil
}
