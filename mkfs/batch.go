package mkfs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// batch is a run of files that one worker handles, and the worker's memory.
type batch struct {
	*loader
	number  int
	files   []sourceFile
	stretch stretch // what there is to do if there are no files

	loaded []loadedFile
	buf    []byte
	writes []memoryWrite // what the sink wants to have written once all files have their place
}

// loadedFile is what a worker found out about a small file.
type loadedFile struct {
	layout layout
	keys   keys
	data   []byte
}

func (b *batch) isLarge() bool { return b.files[0].ino.Size >= largeFile }

// run does what next found.
func (b *batch) run(ctx context.Context) error {
	switch {
	case len(b.files) == 0:
		return b.copyStretch(ctx)
	case b.isLarge():
		return b.runLarge(ctx)
	}
	if err := b.load(ctx); err != nil {
		return err
	}
	b.writes = b.writes[:0]
	if err := b.inTurn(ctx, b.number, b.store); err != nil {
		return err
	}
	if len(b.writes) == 0 {
		return nil
	}
	return b.sink.(*FileSink).write(b.writes)
}

// load reads the files and hashes those of which there may be two.
func (b *batch) load(ctx context.Context) error {
	b.buf, b.loaded = b.buf[:0], b.loaded[:0]
	if b.buf == nil {
		b.buf = make([]byte, 0, batchBytes)
	}
	for i := range b.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := &b.files[i]
		fd, err := b.top.open(f)
		if err != nil {
			return err
		}
		loaded, err := b.loadOne(fd, f)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return b.top.fail(f, err)
		}
		b.loaded = append(b.loaded, loaded)
	}
	return nil
}

func (b *batch) loadOne(fd int, f *sourceFile) (lf loadedFile, err error) {
	if lf.layout, err = layoutOf(fd, f); err != nil {
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
	whole, chunks := b.wants(f, lf.layout)
	if whole {
		k := digest(lf.layout, lf.data)
		lf.keys.whole = &k
	}
	if chunks {
		lf.keys.chunks = b.tree.store.chunkKeysOf(lf.layout, lf.data)
	}
	return lf, nil
}

// wants reports which keys of a file are needed.
func (l *loader) wants(f *sourceFile, lay layout) (whole, chunks bool) {
	st := &l.tree.store
	chunks = st.inChunks(lay)
	twice := l.sizes[f.ino.Size] > 1 && !chunks && !st.inlined(lay) // there may be an equal file, with which the data could be shared
	return twice || st.opts.Digests && lay.isWhole(), chunks
}

// store stores the files that load has read.
func (b *batch) store() error {
	for i := range b.files {
		f, lf := &b.files[i], &b.loaded[i]
		if len(lf.layout.spans) == 0 {
			continue
		}
		if err := b.storeFile(f, lf.layout, lf.keys, &memoryReader{left: lf.data, writes: &b.writes}); err != nil {
			return fmt.Errorf("store %s: %w", b.top.full(f), err)
		}
	}
	return nil
}

// storeFile stores one file of which r gives the data.
func (l *loader) storeFile(f *sourceFile, lay layout, k keys, r io.Reader) error {
	c, err := l.tree.store.add(lay, k, r, l.sink)
	c.give(f.ino)
	return err
}

// memoryReader reads data that is in memory, and stays there until the batch is done.
type memoryReader struct {
	left   []byte
	writes *[]memoryWrite
}

func (r *memoryReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// putOff implements [deferrer].
func (r *memoryReader) putOff(off, size int64) {
	*r.writes = append(*r.writes, memoryWrite{off, r.left[:size]})
	r.left = r.left[size:]
}

// discard implements [discarder].
func (r *memoryReader) discard(size int64) { r.left = r.left[size:] }
