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
	words []uint64 // as pair makes them
	count atomic.Int64
	sets  atomic.Uint64 // calls of Set so far
}

// pair is a word of a volatile bitmap: 32 bits, and above them their complement. It changes as a whole, so that a kill leaves it whole, and what a disk makes up is not taken for bits.
func pair(word uint32) uint64 { return uint64(^word)<<32 | uint64(word) }

// unpair returns the bits of a word, and whether they can be believed.
func unpair(w uint64) (word uint32, sound bool) { return uint32(w), pair(uint32(w)) == w }

func newPresence(words []uint64) *Presence {
	p := &Presence{words: words}
	for i := range words {
		p.count.Add(int64(bits.OnesCount32(p.word(i))))
	}
	return p
}

// word returns the bits of frames 32·i to 32·i+31.
func (p *Presence) word(i int) uint32 { return uint32(atomic.LoadUint64(&p.words[i])) }

// Has reports whether the frame is present.
func (p *Presence) Has(i int) bool { return p.word(i/32)>>(i%32)&1 == 1 }

// Set marks the frame as present. Its bytes must be in the file.
func (p *Presence) Set(i int) {
	p.update(i/32, func(word uint32) uint32 { return word | 1<<(i%32) })
	p.sets.Add(1)
}

// Clear marks the frame as absent for this session. Bytes that are to change need [Blob.Forget].
func (p *Presence) Clear(i int) { p.clear(i/32, 1<<(i%32)) }

func (p *Presence) clear(word int, mask uint32) {
	p.update(word, func(word uint32) uint32 { return word &^ mask })
}

// update replaces the bits of a word by what change makes of them. It may be called more than once.
func (p *Presence) update(i int, change func(uint32) uint32) {
	for {
		old := atomic.LoadUint64(&p.words[i])
		word := change(uint32(old))
		if atomic.CompareAndSwapUint64(&p.words[i], old, pair(word)) {
			p.count.Add(int64(bits.OnesCount32(word) - bits.OnesCount32(uint32(old))))
			return
		}
	}
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
