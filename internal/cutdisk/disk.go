package cutdisk

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
)

// sectorSize is what a disk writes whole or not at all, in bytes.
const sectorSize = 512

// sector is the content of one, which never changes. nil stands for zeros.
type sector []byte

// disk is a disk with a cache that a power cut empties. It forgets the order of writes between two flushes, as disks do.
type disk struct {
	size int64

	mu      sync.Mutex
	now     map[int64]sector // what reads see, by number
	durable map[int64]sector // what no power cut takes away
	cached  []write          // since the last flush
	bad     map[int64]bool   // sectors that cannot be read before they are written again
}

type write struct {
	first   int64 // sector
	sectors []sector
}

// load makes a disk with the content of a file.
func load(image string) (*disk, error) {
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	d := &disk{now: make(map[int64]sector), durable: make(map[int64]sector), bad: make(map[int64]bool)}
	for buf := make([]byte, 1<<20); ; {
		n, err := f.Read(buf)
		if err == io.EOF {
			d.flush()
			return d, nil
		}
		if err != nil {
			return nil, err
		}
		d.write(buf[:n], d.size)
		d.size += int64(n)
	}
}

// errBad says that a sector has gone bad.
var errBad = errors.New("medium error")

// ReadAt fills p with whole sectors. It reads nothing if one of them has gone bad.
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if off >= d.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), d.size-off)]
	d.mu.Lock()
	defer d.mu.Unlock()
	for done := 0; done < len(p); {
		n := (off + int64(done)) / sectorSize
		if d.bad[n] {
			return 0, errBad
		}
		in := int((off + int64(done)) % sectorSize)
		part := p[done:min(len(p), done+sectorSize-in)]
		clear(part)
		if s := d.now[n]; s != nil {
			copy(part, s[in:])
		}
		done += len(part)
	}
	return len(p), nil
}

// write takes whole sectors, and may keep none of them until flush.
func (d *disk) write(p []byte, off int64) {
	w := write{first: off / sectorSize}
	for s := range slices.Chunk(p, sectorSize) {
		if len(bytes.Trim(s, "\x00")) == 0 {
			w.sectors = append(w.sectors, nil)
		} else {
			w.sectors = append(w.sectors, bytes.Clone(s))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w.apply(d.now, nil)
	d.cached = append(d.cached, w)
	for i := range w.sectors {
		delete(d.bad, w.first+int64(i))
	}
}

// spoil has all sectors with a text in them go bad, and returns how many those are.
func (d *disk) spoil(text string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range d.now {
		if bytes.Contains(s, []byte(text)) {
			d.bad[i] = true
			n++
		}
	}
	return n
}

// apply puts the sectors that keep approves of on a disk.
func (w write) apply(to map[int64]sector, keep func() bool) {
	for i, s := range w.sectors {
		if keep != nil && !keep() {
			continue
		}
		if s == nil {
			delete(to, w.first+int64(i))
		} else {
			to[w.first+int64(i)] = s
		}
	}
}

// flush makes durable what was written before.
func (d *disk) flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.cached {
		w.apply(d.durable, nil)
	}
	d.cached = nil
}

// cut returns what a power cut at this moment could leave on the disk: all that was flushed and any part of what was not. The seed decides which.
func (d *disk) cut(seed uint64) (left map[int64]sector, cached int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	left = maps.Clone(d.durable)
	rnd := rand.New(rand.NewPCG(seed, 1))
	likely := rnd.Float64() // to be on the disk, of a write in this cut
	for _, w := range d.cached {
		switch {
		case rnd.Float64() < 0.1: // torn
			w.apply(left, func() bool { return rnd.Float64() < likely })
		case rnd.Float64() < likely:
			w.apply(left, nil)
		}
	}
	return left, len(d.cached)
}

// save writes a disk to a file.
func save(left map[int64]sector, size int64, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // closed below
	if err := f.Truncate(size); err != nil {
		return err
	}
	// One write for each run of sectors.
	var run []byte
	var start int64
	for _, n := range slices.Sorted(maps.Keys(left)) {
		if len(run) > 0 && (start+int64(len(run)) != n*sectorSize || len(run) >= 1<<20) {
			if _, err := f.WriteAt(run, start); err != nil {
				return err
			}
			run = run[:0]
		}
		if len(run) == 0 {
			start = n * sectorSize
		}
		run = append(run, left[n]...)
	}
	if _, err := f.WriteAt(run, start); err != nil {
		return err
	}
	return f.Close()
}
