package view

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// Reading ahead, in bytes of the blob: a miss where the last fetch ended doubles what is fetched beyond it, from minAhead to maxAhead.
const (
	minAhead = 256 << 10
	maxAhead = 4 << 20
)

// device is a blob as the tree reads it.
type device struct {
	v     *View
	index int
	load  func() (loadedBlob, error)

	mu    sync.Mutex // held while frames are fetched: a second reader of the same run waits for it
	next  int        // the frame behind the last fetch
	ahead int64      // how far the last fetch went beyond what was asked for
}

// loadedBlob is what reading from a blob needs.
type loadedBlob struct {
	m       *blob.Map
	objects []backend.Object
}

// readers returns the devices as [erofs.Open] wants them.
func (v *View) readers() []io.ReaderAt {
	var list []io.ReaderAt
	for _, d := range v.devices {
		list = append(list, d)
	}
	return list
}

// open fetches the map. It lies in a mapped file: maps are up to blob.MaxMapSize long each, and a few compressed bytes can claim that.
func (d *device) open() (b loadedBlob, err error) {
	f, err := d.v.tempFile()
	if err != nil {
		return b, err
	}
	a := d.v.Artifact
	if err := a.WriteMap(d.v.ctx, d.index, f); err != nil {
		return b, err
	}
	raw, err := d.v.mapFile(f, a.Blobs[d.index].MapSize)
	if err != nil {
		return b, fmt.Errorf("map of blob %s: %w", a.Blobs[d.index].ID, err)
	}
	m, err := blob.Parse(raw)
	if err != nil {
		return b, fmt.Errorf("map of blob %s: %w", a.Blobs[d.index].ID, err)
	}
	if err := a.CheckMap(d.index, m); err != nil {
		return b, err
	}
	for _, desc := range a.Blobs[d.index].Sources {
		object, err := d.v.object(desc)
		if err != nil {
			return b, err
		}
		b.objects = append(b.objects, object)
	}
	b.m = m
	return b, nil
}

func (v *View) mapFile(f *os.File, size int64) ([]byte, error) {
	raw, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map temporary file: %w", err)
	}
	v.cleanups.add(func() error { return unix.Munmap(raw) })
	return raw, nil
}

// ReadAt implements [io.ReaderAt] for the blob's bytes.
func (d *device) ReadAt(p []byte, off int64) (int, error) {
	b, err := d.load()
	if err != nil {
		return 0, err
	}
	done := 0
	for done < len(p) {
		i := b.m.Find(off)
		if i < 0 {
			return done, io.EOF
		}
		data, err := d.frame(b, i, off+int64(len(p)-done))
		if err != nil {
			return done, fmt.Errorf("blob %s: %w", b.m.ID(), err)
		}
		n := copy(p[done:], data[off-b.m.Frame(i).Off:])
		done += n
		off += int64(n)
	}
	return done, nil
}

// frame returns the bytes of frame i, of a read that ends at the byte end of the blob.
func (d *device) frame(b loadedBlob, i int, end int64) ([]byte, error) {
	if data := d.v.cache.get(frameKey{d.index, i}); data != nil {
		return data, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if data := d.v.cache.get(frameKey{d.index, i}); data != nil {
		return data, nil
	}
	stop := d.plan(b, i, end)
	var first []byte
	err := d.v.fetch(b, i, stop, func(k int, data []byte) {
		if k == i {
			first = data
		}
		d.v.cache.put(frameKey{d.index, k}, data)
	})
	if first != nil { // what lies ahead may fail now and work later
		return first, nil
	}
	return nil, err
}

// plan decides how far to fetch from frame i on, for a read that ends at the byte end: through frames that follow each other in their object as they do in
// the blob, and are not there. The caller holds the mutex.
func (d *device) plan(b loadedBlob, i int, end int64) (stop int) {
	if i == d.next && i > 0 {
		d.ahead = min(max(2*d.ahead, minAhead), maxAhead)
	} else {
		d.ahead = 0
	}
	start := b.m.Frame(i)
	limit := min(end+d.ahead, start.Off+min(maxAhead, d.v.o.Cache/2))
	last := start
	for stop = i + 1; stop < b.m.Frames(); stop++ {
		f := b.m.Frame(stop)
		if f.Off >= limit || !follows(last, f) || d.v.cache.get(frameKey{d.index, stop}) != nil {
			break
		}
		last = f
	}
	d.next = stop
	return stop
}

// follows reports whether f lies directly behind last in the same object.
func follows(last, f blob.Frame) bool {
	return f.Source == last.Source && f.SrcOff == last.SrcOff+int64(last.SrcLen)
}
