package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A journal is a memfd that both we and the holder have. Each read of the group is given a slot of it as buffer, so it is the kernel that writes the record:
// there is no instant at which an event has left the kernel's queue and is not in the journal. Native byte order:
//
//	   0  magic "PAGEINJL"
//	   8  u32 version: 1, or 2 with a table of reads
//	  12  u32 number of slots
//	  16  u32 1 when the table of reads is not complete
//	  24  u64 in version 2 the PID namespace, by the inode of /proc/self/ns/pid, whose thread IDs are in the table of reads
//	4096  slots of 128 bytes:
//	        0  the event as read(2) left it; its first u32 is its length, and 0 says that the slot is free. Behind one without a range there may be another of the kind
//	       64  blob ID, 32 bytes
//	       96  u32 1 when the blob ID counts
//	then, in version 2, the table of reads (see reads.go)
//
// The memory is locked: a page that had to be read from swap while a SIGKILL is pending would fail the kernel's copy.
const (
	journalMagic   = "PAGEINJL"
	journalPlain   = 1
	journalTracked = 2
	journalLost    = 16
	journalPIDs    = 24
	journalHeader  = 4096

	slots     = 256 // for each group: events that can be in work at a time; more wait in the kernel's queue
	slotSize  = 128
	slotEvent = 64 // room for an event of 48 bytes, with a range, or two of 24, see cut
	slotBlob  = 64
	slotNamed = 96
)

type journal struct {
	fd    int
	mem   []byte
	reads *reads // nil if reads are not tracked
}

// journalSize is the length of a journal in bytes.
func journalSize(tracked bool) int {
	size := journalHeader + slots*slotSize
	if tracked {
		size += readRecords * readSize
	}
	return size
}

// slot is one record of a journal.
type slot []byte

// newJournal makes a journal, with a table of reads if they are tracked.
func newJournal(tracked bool) (*journal, error) {
	fd, err := unix.MemfdCreate("pagein-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	size := journalSize(tracked)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("make journal: %w", err), unix.Close(fd))
	}
	// Nobody may take pages away from under a mapping.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		return nil, errors.Join(fmt.Errorf("seal journal: %w", err), unix.Close(fd))
	}
	j, err := mapJournal(fd, size)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	version := uint32(journalPlain)
	if tracked {
		version = journalTracked
	}
	copy(j.mem, journalMagic)
	binary.NativeEndian.PutUint32(j.mem[8:], version)
	binary.NativeEndian.PutUint32(j.mem[12:], slots)
	if err := j.openReads(true); err != nil {
		return nil, errors.Join(err, j.close())
	}
	return j, nil
}

// adoptJournal takes up a predecessor's journal.
func adoptJournal(fd int) (*journal, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("adopt journal: %w", err)
	}
	size := int(st.Size)
	if size != journalSize(false) && size != journalSize(true) {
		return nil, fmt.Errorf("adopt journal: it has %d bytes, expected %d or %d: made by another version of pagein", size, journalSize(false), journalSize(true))
	}
	j, err := mapJournal(fd, size)
	if err != nil {
		return nil, err
	}
	version, n := binary.NativeEndian.Uint32(j.mem[8:]), binary.NativeEndian.Uint32(j.mem[12:])
	fits := version == journalPlain && size == journalSize(false) || version == journalTracked && size == journalSize(true)
	if string(j.mem[:8]) != journalMagic || !fits || n != slots {
		return nil, errors.Join(fmt.Errorf("adopt journal: magic %q, version %d, %d slots: made by another version of pagein", j.mem[:8], version, n), unix.Munmap(j.mem))
	}
	if err := j.openReads(false); err != nil {
		return nil, errors.Join(err, unix.Munmap(j.mem))
	}
	return j, nil
}

func mapJournal(fd, size int) (*journal, error) {
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map journal: %w", err)
	}
	if err := unix.Mlock(mem); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %d bytes of journal in memory: %w: raise RLIMIT_MEMLOCK", len(mem), err), unix.Munmap(mem))
	}
	return &journal{fd: fd, mem: mem}, nil
}

// openReads opens the table of reads, if there is one. One from another PID namespace, whose threads have other numbers here, counts for nothing.
func (j *journal) openReads(fresh bool) error {
	if len(j.mem) != journalSize(true) {
		return nil
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err != nil {
		return fmt.Errorf("look at the PID namespace: %w", err)
	}
	j.reads = adoptReads(j.mem[journalSize(false):], (*uint32)(unsafe.Pointer(&j.mem[journalLost])))
	if fresh {
		binary.NativeEndian.PutUint64(j.mem[journalPIDs:], ns.Ino)
	} else if binary.NativeEndian.Uint64(j.mem[journalPIDs:]) != ns.Ino {
		j.reads.lose()
	}
	return nil
}

func (j *journal) close() error {
	return errors.Join(unix.Munmap(j.mem), unix.Close(j.fd))
}

func (j *journal) slot(i int) slot {
	return j.mem[journalHeader+i*slotSize:][:slotSize:slotSize]
}

func (s slot) word(off int) *uint32 { return (*uint32)(unsafe.Pointer(&s[off])) }

// live reports whether an event in the slot may still be owed an answer.
func (s slot) live() bool { return atomic.LoadUint32(s.word(0)) != 0 }

// buffer is where the kernel is to write the next event. Nothing of an earlier one is left in the slot.
func (s slot) buffer() []byte {
	clear(s)
	return s[:slotEvent]
}

// name records which blob the event is about.
func (s slot) name(id *[32]byte) {
	copy(s[slotBlob:], id[:])
	atomic.StoreUint32(s.word(slotNamed), 1)
}

// named returns the blob that the event is about, if that was recorded.
func (s slot) named() (id [32]byte, ok bool) {
	return [32]byte(s[slotBlob:]), atomic.LoadUint32(s.word(slotNamed)) == 1
}

// free says that the event has been answered. It must come before the event's descriptor is closed: its number may then be that of a new event, which must not
// be answered in place of this one.
func (s slot) free() { atomic.StoreUint32(s.word(0), 0) }
