package fanotify

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reads is a group's table of the reads that may be under way: between the event that asks for a range and the one that tells, after the file has been read,
// that it was. What is in it must not be evicted. It lies in the journal, behind the slots, so that a successor knows of the reads that its predecessor has
// allowed. Native byte order; records of 64 bytes:
//
//	 0  u32 thread ID, 0 for a free record
//	 8  u64 offset
//	16  u64 bytes
//	24  blob ID, 32 bytes; zeros for any blob of the group
//
// A thread reads one range at a time, so whatever it does next ends its read: FAN_ACCESS, another question, its own end. The group's one queue tells of a thread's
// deeds in their order. Its methods may be called concurrently, but for begin and end, which are the group's loop's.
type reads struct {
	lost  *uint32              // in the journal: 1 when reads may be under way that are not in the table
	ended func(tid int32) bool // whether there is no such thread

	mu       sync.Mutex
	mem      []byte
	byThread map[int32]int // records
	free     []int
}

const (
	readRecords = 1024
	readSize    = 64
	readBlob    = 24
)

// adoptReads takes up the table in mem, which may be a fresh one.
func adoptReads(mem []byte, lost *uint32) *reads {
	r := &reads{mem: mem, lost: lost, ended: ended, byThread: make(map[int32]int)}
	for i := range readRecords {
		if tid := atomic.LoadInt32(r.thread(i)); tid != 0 {
			r.byThread[tid] = i
		} else {
			r.free = append(r.free, i)
		}
	}
	return r
}

func (r *reads) record(i int) []byte { return r.mem[i*readSize:][:readSize:readSize] }

func (r *reads) thread(i int) *int32 { return (*int32)(unsafe.Pointer(&r.mem[i*readSize])) }

// begin notes that the thread wants to read a range. It must come before anybody looks whether the range is present. Of a thread without a number, and of one too
// many, nothing can be told later: from then on, no read of the group's blobs counts as over.
func (r *reads) begin(tid int32, blob *[32]byte, off, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.byThread[tid]
	if !ok && len(r.free) == 0 {
		r.reap()
	}
	if tid <= 0 || !ok && len(r.free) == 0 {
		r.lose()
		return
	}
	if !ok {
		i = r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		r.byThread[tid] = i
	}
	rec := r.record(i)
	binary.NativeEndian.PutUint64(rec[8:], uint64(off))
	binary.NativeEndian.PutUint64(rec[16:], uint64(n))
	copy(rec[readBlob:], blob[:])
	atomic.StoreInt32(r.thread(i), tid)
}

// lose notes that reads may be under way that are not in the table.
func (r *reads) lose() { atomic.StoreUint32(r.lost, 1) }

// end notes that the thread's read, if it had one, is over.
func (r *reads) end(tid int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(tid)
}

// drop forgets the thread's read. The caller holds r.mu.
func (r *reads) drop(tid int32) {
	if i, ok := r.byThread[tid]; ok {
		delete(r.byThread, tid)
		atomic.StoreInt32(r.thread(i), 0)
		r.free = append(r.free, i)
	}
}

// reap forgets the reads of threads that are no more: of a read that failed the kernel does not tell. The caller holds r.mu.
func (r *reads) reap() {
	for tid := range r.byThread {
		if r.ended(tid) {
			r.drop(tid)
		}
	}
}

// ended reports whether there is no thread with that number. One that has got the number of another counts as that one.
func ended(tid int32) bool { return unix.Kill(int(tid), 0) == unix.ESRCH }

// tracked reports whether all reads that may be under way are in the table.
func (r *reads) tracked() bool { return atomic.LoadUint32(r.lost) == 0 }

// idle reports whether no read that overlaps the range can be under way.
func (r *reads) idle(blob *[32]byte, off, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.tracked() {
		return false
	}
	for tid, i := range r.byThread {
		rec := r.record(i)
		if at := [32]byte(rec[readBlob:]); at != *blob && at != ([32]byte{}) {
			continue
		}
		from, count := int64(binary.NativeEndian.Uint64(rec[8:])), int64(binary.NativeEndian.Uint64(rec[16:]))
		if from >= off+n || off-from >= count { // no sum of what the kernel said: it could overflow
			continue
		}
		if !r.ended(tid) {
			return false
		}
		r.drop(tid)
	}
	return true
}
