package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Presence record, little-endian:
//
//	 0  magic "PAGEINPR"
//	 8  u32 version (1)
//	12  u32 frames
//	16  u32 state: 1 while the blob file may hold frames that are not on the disk yet, 0 when all that is set is durable
//	20  u32 zero
//	24  boot ID of the kernel that state 1 refers to, 36 bytes of text, padded with zeros to 64
//	64  one bit per frame, in u32 words, bit 0 first
//
// The record is mapped shared, so what a killed daemon had set is still set. After a crash of the machine the page cache is gone with what it had not
// written, and nobody knows what that was: a record in state 1 of another boot counts for nothing.
const (
	presenceMagic   = "PAGEINPR"
	presenceVersion = 1
	presenceHeader  = 64

	stateClean = 0
	stateDirty = 1
)

// Presence implements ondemand.Presence over a mapped record.
type Presence struct {
	mem   []byte
	bits  []uint32
	count atomic.Int64
}

// openPresence maps the record at path for a blob of that many frames. fresh says that the blob file is new, so an old record counts for nothing.
func openPresence(path string, frames int, boot string, fresh bool) (*Presence, error) {
	size := presenceHeader + (frames+31)/32*4
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if st.Size() != int64(size) {
		fresh = true
		// A mapping of a sparse file dies by SIGBUS when the disk is full: have the blocks first.
		if err := errors.Join(f.Truncate(0), unix.Fallocate(int(f.Fd()), 0, 0, int64(size))); err != nil {
			return nil, fmt.Errorf("reserve %s: %w", path, err)
		}
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	p := &Presence{mem: mem, bits: unsafe.Slice((*uint32)(unsafe.Pointer(&mem[presenceHeader])), (frames+31)/32)}
	if fresh || !p.valid(frames, boot) {
		clear(mem[presenceHeader:])
	}
	if frames%32 != 0 { // a damaged record must not count frames that do not exist
		p.bits[len(p.bits)-1] &= 1<<(frames%32) - 1
	}
	for _, w := range p.bits {
		p.count.Add(int64(bits.OnesCount32(w)))
	}
	p.header(frames, boot, stateDirty)
	// The dirty state must reach the disk before any bit that relies on it.
	if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", path, err), unix.Munmap(mem))
	}
	return p, nil
}

func (p *Presence) valid(frames int, boot string) bool {
	h := p.mem[:presenceHeader]
	if string(h[:8]) != presenceMagic || binary.LittleEndian.Uint32(h[8:]) != presenceVersion || binary.LittleEndian.Uint32(h[12:]) != uint32(frames) {
		return false
	}
	clean := binary.LittleEndian.Uint32(h[16:]) == stateClean
	return clean || string(bytes.TrimRight(h[24:], "\x00")) == boot
}

func (p *Presence) header(frames int, boot string, state uint32) {
	h := p.mem[:presenceHeader]
	clear(h)
	copy(h, presenceMagic)
	binary.LittleEndian.PutUint32(h[8:], presenceVersion)
	binary.LittleEndian.PutUint32(h[12:], uint32(frames))
	binary.LittleEndian.PutUint32(h[16:], state)
	copy(h[24:], boot)
}

// Has reports whether the frame is present.
func (p *Presence) Has(i int) bool { return atomic.LoadUint32(&p.bits[i/32])>>(i%32)&1 == 1 }

// Set marks the frame as present.
func (p *Presence) Set(i int) {
	if old := atomic.OrUint32(&p.bits[i/32], 1<<(i%32)); old>>(i%32)&1 == 0 {
		p.count.Add(1)
	}
}

// Clear marks the frame as absent.
func (p *Presence) Clear(i int) {
	if old := atomic.AndUint32(&p.bits[i/32], ^uint32(1<<(i%32))); old>>(i%32)&1 == 1 {
		p.count.Add(-1)
	}
}

// Count is the number of frames present.
func (p *Presence) Count() int { return int(p.count.Load()) }

// close records that all that is set is durable, or else that nothing is present, and unmaps the record.
func (p *Presence) close(durable bool) error {
	if durable {
		binary.LittleEndian.PutUint32(p.mem[16:], stateClean)
	} else {
		// Left set, the bits would hold again for the rest of this boot, and the next close would call them durable.
		clear(p.mem[presenceHeader:])
	}
	return errors.Join(unix.Msync(p.mem, unix.MS_SYNC), unix.Munmap(p.mem))
}

// BootID names this boot of the kernel.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("read the kernel's boot ID: /proc is not mounted")
	}
	return strings.TrimSpace(string(b)), err
}
