package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// watched are readers of one file at random offsets, each of whose reads is compared with what the file must hold.
type watched struct {
	data    []byte
	readers []*watchedReader
	ending  atomic.Bool
	wg      sync.WaitGroup
}

type watchedReader struct {
	file *os.File

	mu       sync.Mutex
	awaited  bool // expect was called and no read has ended since
	answered span // the first read that ended after expect
	last     span // the latest read
	n        int64
	err      error
}

// span is when a read began and ended.
type span struct{ begin, end time.Time }

// startWatched starts readers of pieces of 4 KiB. stop must be called.
func startWatched(path string, data []byte, readers int) (*watched, error) {
	w := &watched{data: data}
	for range readers {
		file, err := os.Open(path)
		if err == nil {
			w.readers = append(w.readers, &watchedReader{file: file, last: span{end: time.Now()}})
			err = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_RANDOM)
		}
		if err != nil {
			_, closeErr := w.stop()
			return nil, errors.Join(err, closeErr)
		}
	}
	for i, r := range w.readers {
		w.wg.Go(func() { r.run(w, rand.New(rand.NewPCG(13, uint64(i)))) })
	}
	return w, nil
}

// run reads until it is told to end, or reads something wrong.
func (r *watchedReader) run(w *watched, random *rand.Rand) {
	const piece = 4096
	buf := make([]byte, piece)
	for !w.ending.Load() {
		off := random.Int64N(int64(len(w.data))/piece) * piece
		read := span{begin: time.Now()}
		_, err := r.file.ReadAt(buf, off)
		read.end = time.Now()
		if err == nil && !bytes.Equal(buf, w.data[off:off+piece]) {
			err = errors.New("wrong bytes")
		}
		// The next read of these bytes must ask again.
		err = errors.Join(err, unix.Fadvise(int(r.file.Fd()), off, piece, unix.FADV_DONTNEED))
		if err != nil {
			err = fmt.Errorf("read %s at %d: %w", r.file.Name(), off, err)
		}
		r.note(read, err)
		if err != nil {
			return
		}
	}
}

func (r *watchedReader) note(read span, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.awaited {
		r.awaited, r.answered = false, read
	}
	r.last, r.err = read, err
	r.n++
}

// quietFor reports whether no read has ended for so long.
func (w *watched) quietFor(d time.Duration) bool {
	for _, r := range w.readers {
		r.mu.Lock()
		recent := time.Since(r.last.end) < d
		r.mu.Unlock()
		if recent {
			return false
		}
	}
	return true
}

// expect begins to wait for a read of each reader.
func (w *watched) expect() {
	for _, r := range w.readers {
		r.mu.Lock()
		r.awaited = true
		r.mu.Unlock()
	}
}

// answered returns the first read of each reader that has ended since expect was called, and whether there is one of each.
func (w *watched) answered() ([]span, bool) {
	var reads []span
	for _, r := range w.readers {
		r.mu.Lock()
		if !r.awaited {
			reads = append(reads, r.answered)
		}
		r.mu.Unlock()
	}
	return reads, len(reads) == len(w.readers)
}

// await asks done again and again until it says yes, a reader fails, or it takes too long.
func (w *watched) await(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !done() {
		if err := errors.Join(w.failure(), sleep(ctx, time.Millisecond)); err != nil {
			return err
		}
	}
	return w.failure()
}

// failure is why a reader has stopped, if one has.
func (w *watched) failure() error {
	for _, r := range w.readers {
		r.mu.Lock()
		err := r.err
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// stop ends the readers once their reads have ended, and returns how many reads were verified.
func (w *watched) stop() (verified int64, err error) {
	w.ending.Store(true)
	w.wg.Wait()
	for _, r := range w.readers {
		verified += r.n
		err = errors.Join(err, r.err, r.file.Close())
	}
	return verified, err
}
