package store

import (
	"errors"
	"io/fs"
	"math/bits"
	"os"
	"strings"
	"sync/atomic"
)

// Presence says which frames are in a blob file. It implements ondemand.Presence over the volatile bitmap of a presence record, and may be used concurrently until
// its Blob is closed.
type Presence struct {
	bits  []uint32
	count atomic.Int64
	sets  atomic.Uint64 // calls of Set so far
}

func newPresence(words []uint32) *Presence {
	p := &Presence{bits: words}
	for i := range words {
		p.count.Add(int64(bits.OnesCount32(atomic.LoadUint32(&words[i]))))
	}
	return p
}

// Has reports whether the frame is present.
func (p *Presence) Has(i int) bool { return atomic.LoadUint32(&p.bits[i/32])>>(i%32)&1 == 1 }

// Set marks the frame as present. Its bytes must be in the file.
func (p *Presence) Set(i int) {
	if old := atomic.OrUint32(&p.bits[i/32], 1<<(i%32)); old>>(i%32)&1 == 0 {
		p.count.Add(1)
	}
	p.sets.Add(1)
}

// Clear marks the frame as absent for this session. Bytes that are to change need [Blob.Forget].
func (p *Presence) Clear(i int) { p.clear(i/32, 1<<(i%32)) }

func (p *Presence) clear(word int, mask uint32) {
	old := atomic.AndUint32(&p.bits[word], ^mask)
	p.count.Add(-int64(bits.OnesCount32(old & mask)))
}

// Count is the number of frames present.
func (p *Presence) Count() int { return int(p.count.Load()) }

// BootID names this boot of the kernel.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("read the kernel's boot ID: /proc is not mounted")
	}
	return strings.TrimSpace(string(b)), err
}
