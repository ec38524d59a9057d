package mkfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	batchBytes = 1 << 20   // file data that one batch holds in memory
	batchFiles = 128       // files of one batch
	largeFile  = 512 << 10 // files from this size on are not read into memory
)

// batch is a run of files that one worker reads. Batches are stored in order, so the result does not depend on the number of workers.
type batch struct {
	files  []sourceFile
	loaded []loadedFile
	buf    []byte
	done   chan struct{} // buffered, 1: the worker is through
}

// loadedFile is what a worker found out about a file.
type loadedFile struct {
	layout layout
	hashed bool
	key    key
	data   []byte // nil for large files
	before unix.Stat_t
}

// loadFiles reads all files: workers read and hash ahead, this goroutine stores. sizes has the number of files of each size.
func (t *Tree) loadFiles(ctx context.Context, o *opener, files []sourceFile, sizes map[int64]int32, sink Sink) error {
	workers := runtime.GOMAXPROCS(0)
	free := make(chan *batch, 2*workers)
	for range cap(free) {
		free <- &batch{done: make(chan struct{}, 1)}
	}
	work, order := make(chan *batch, cap(free)), make(chan *batch, cap(free))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		for len(files) > 0 {
			select {
			case b := <-free:
				n := batchLength(files)
				b.files, files = files[:n], files[n:]
				work <- b // both have room for all batches there are
				order <- b
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			for b := range work {
				if err := b.load(ctx, o, sizes); err != nil {
					return err
				}
				b.done <- struct{}{}
			}
			return nil
		})
	}
	g.Go(func() error {
		for b := range order {
			select {
			case <-b.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := t.storeBatch(ctx, b, o, sink); err != nil {
				return err
			}
			free <- b
		}
		return nil
	})
	return g.Wait()
}

// batchLength returns how many of the next files make a batch, at least one.
func batchLength(files []sourceFile) int {
	total := int64(0)
	for i, f := range files {
		if f.ino.Size < largeFile {
			total += f.ino.Size
		}
		if i > 0 && (total > batchBytes || i == batchFiles) {
			return i
		}
	}
	return len(files)
}

// load reads the small files of a batch and hashes those of which there may be two.
func (b *batch) load(ctx context.Context, o *opener, sizes map[int64]int32) error {
	b.buf, b.loaded = b.buf[:0], b.loaded[:0]
	total := 0
	for _, f := range b.files {
		if f.ino.Size < largeFile {
			total += int(f.ino.Size)
		}
	}
	if cap(b.buf) < total {
		b.buf = make([]byte, 0, max(total, batchBytes))
	}
	for i := range b.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := &b.files[i]
		fd, err := o.open(f)
		if err != nil {
			return err
		}
		loaded, err := b.loadOne(ctx, fd, f, sizes[f.ino.Size] > 1)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return o.fail(f, err)
		}
		b.loaded = append(b.loaded, loaded)
	}
	return nil
}

func (b *batch) loadOne(ctx context.Context, fd int, f *sourceFile, hashed bool) (lf loadedFile, err error) {
	lf.hashed = hashed
	if lf.layout, err = layoutOf(fd, f); err != nil {
		return lf, err
	}
	if f.ino.Size >= largeFile {
		if err := unix.Fstat(fd, &lf.before); err != nil {
			return lf, err
		}
		if !hashed {
			return lf, nil
		}
		h := newHash(lf.layout)
		_, err := io.Copy(h, contextReader{ctx, &spanReader{fd, append([]span(nil), lf.layout.spans...)}})
		lf.key = key(h.Sum(nil))
		return lf, err
	}
	from := len(b.buf)
	for _, s := range lf.layout.spans {
		at := len(b.buf)
		b.buf = b.buf[:at+int(s.len)]
		if err := readAt(fd, b.buf[at:], s.off); err != nil {
			return lf, err
		}
	}
	lf.data = b.buf[from:]
	if hashed {
		lf.key = digest(lf.layout, lf.data)
	}
	return lf, nil
}

// storeBatch stores files that a worker has loaded.
func (t *Tree) storeBatch(ctx context.Context, b *batch, o *opener, sink Sink) error {
	var r bytes.Reader
	for i := range b.files {
		f, lf := &b.files[i], &b.loaded[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(lf.layout.spans) == 0 {
			continue
		}
		if f.ino.Size >= largeFile {
			if err := t.storeLarge(ctx, f, lf, o, sink); err != nil {
				return o.fail(f, err)
			}
			continue
		}
		r.Reset(lf.data)
		if err := t.storeFile(f, lf, &r, sink); err != nil {
			return fmt.Errorf("store %s: %w", o.full(f), err)
		}
	}
	return nil
}

// storeFile stores one file of which r gives the data.
func (t *Tree) storeFile(f *sourceFile, lf *loadedFile, r io.Reader, sink Sink) error {
	var c content
	var err error
	if lf.hashed && !t.store.inlined(lf.layout) {
		c, err = t.store.addHashed(lf.layout, lf.key, r, sink)
	} else {
		c, err = t.store.put(lf.layout, r, sink)
	}
	f.ino.Extents, f.ino.Inline = c.extents, c.inline
	return err
}

// storeLarge stores a file that is read only now. Had it changed since it was hashed, equal files would get its new data.
func (t *Tree) storeLarge(ctx context.Context, f *sourceFile, lf *loadedFile, o *opener, sink Sink) (err error) {
	fd, err := o.open(f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	r := &spanReader{fd, append([]span(nil), lf.layout.spans...)}
	if err := t.storeFile(f, lf, r, sink); err != nil {
		return err
	}
	var after unix.Stat_t
	if err := unix.Fstat(fd, &after); err != nil {
		return err
	}
	if after.Size != lf.before.Size || after.Mtim != lf.before.Mtim || after.Ctim != lf.before.Ctim {
		return errChanged
	}
	return ctx.Err()
}
