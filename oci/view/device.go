package view

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/ondemand/backend"
)

// device is a blob as the tree reads it.
type device struct {
	v     *View
	index int
	load  func() (loadedBlob, error)

	mu      sync.Mutex
	flights map[int]*flight // frames that are being fetched
	next    int             // the frame behind the last fetch
	ahead   int64           // how far the last fetch went beyond what was asked for
}

// loadedBlob is what reading from a blob needs.
type loadedBlob struct {
	m       *blob.Map
	objects []backend.Object
}

// flight is a frame that is being fetched. Data and err are set when done is closed, neither if another frame of the fetch failed.
type flight struct {
	done chan struct{}
	data []byte
	err  error
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
	f, err := atomicfile.Temp(d.v.o.TempDir)
	if err != nil {
		return b, err
	}
	defer f.Close() // what is mapped stays; an artifact may have more maps than a process may have open files
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
		object, err := d.v.o.Remote.Object(d.v.place, desc)
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

// frame returns the bytes of frame i, for a read that ends at the byte end of the blob.
func (d *device) frame(b loadedBlob, i int, end int64) ([]byte, error) {
	for {
		if data := d.v.cache.get(frameKey{d.index, i}); data != nil {
			return data, nil
		}
		d.mu.Lock()
		mine := d.flights[i]
		if mine == nil {
			run := d.board(d.plan(b, i, end), i)
			d.mu.Unlock()
			d.fly(b, i, run)
			mine = run[0]
		} else {
			d.mu.Unlock()
			<-mine.done
		}
		if mine.data != nil || mine.err != nil {
			return mine.data, mine.err
		}
	}
}

// board notes that the frames from first to stop are on their way. The caller holds the mutex.
func (d *device) board(stop, first int) []*flight {
	var run []*flight
	for i := first; i < stop; i++ {
		f := &flight{done: make(chan struct{})}
		d.flights[i] = f
		run = append(run, f)
	}
	return run
}

// fly fetches a run of frames and tells who waits for them. If one fails, the rest is for whoever needs it to fetch.
func (d *device) fly(b loadedBlob, first int, run []*flight) {
	landed := 0
	land := func(data []byte, err error) {
		f := run[landed]
		f.data, f.err = data, err
		d.mu.Lock()
		delete(d.flights, first+landed)
		d.mu.Unlock()
		close(f.done)
		landed++
	}
	err := d.v.fetch(b, first, first+len(run), func(i int, data []byte) {
		d.v.cache.put(frameKey{d.index, i}, data)
		land(data, nil)
	})
	if err != nil {
		land(nil, err)
	}
	for landed < len(run) {
		land(nil, nil)
	}
}
