package mkfs

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// copyBuffer is how much of a large file is read before it is written, in bytes: it should stay in the processor's cache.
const copyBuffer = 256 << 10

// openLarge is a large file between the time when it is opened and when all of it is stored.
type openLarge struct {
	*sourceFile
	loader *loader
	fd     int
	before unix.Stat_t
	copies []stretch
	left   atomic.Int32 // copies that are not finished
}

// stretch is a part of a large file that is to be copied to the sink's file.
type stretch struct {
	of       *openLarge
	from, to int64
	size     int64
}

// runLarge handles a large file. If the sink is a file, the data becomes stretches; other sinks read it, when its turn has come.
func (b *batch) runLarge(ctx context.Context) error {
	f := &b.files[0]
	o, err := b.openLarge(f)
	if err != nil {
		return err
	}
	if err := b.storeLarge(ctx, o); err != nil {
		return b.top.fail(f, err)
	}
	o.left.Store(int32(len(o.copies)))
	b.share(o.copies)
	if len(o.copies) == 0 {
		return o.finish()
	}
	return nil
}

// openLarge opens a file, which the loader closes after an error.
func (l *loader) openLarge(f *sourceFile) (*openLarge, error) {
	fd, err := l.top.open(f)
	if err != nil {
		return nil, err
	}
	o := &openLarge{sourceFile: f, loader: l, fd: fd}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[o] = struct{}{}
	return o, nil
}

func (b *batch) storeLarge(ctx context.Context, o *openLarge) error {
	lay, err := layoutOf(o.fd, o.sourceFile)
	if err != nil {
		return err
	}
	if err := unix.Fstat(o.fd, &o.before); err != nil {
		return err
	}
	k, err := b.largeKeys(o.sourceFile, lay, contextReader{ctx, o.reader(lay)})
	if err != nil {
		return err
	}
	return b.inTurn(ctx, b.number, func() error {
		if len(lay.spans) == 0 {
			return nil
		}
		return b.storeFile(o.sourceFile, lay, k, o.reader(lay))
	})
}

// largeKeys computes the keys of a large file, of which r gives the spans one after the other.
func (b *batch) largeKeys(f *sourceFile, lay layout, r io.Reader) (k keys, err error) {
	whole, chunks := b.wants(f, lay)
	h := newHash(lay)
	switch {
	case chunks && whole:
		k.chunks, err = b.tree.store.chunkKeys(lay, io.TeeReader(r, h), b.scratch())
	case chunks:
		k.chunks, err = b.tree.store.chunkKeys(lay, r, b.scratch())
	case whole:
		_, err = io.CopyBuffer(h, r, b.scratch())
	}
	if whole {
		k.whole = (*key)(h.Sum(nil))
	}
	return k, err
}

// scratch is memory to copy through.
func (b *batch) scratch() []byte {
	if b.buf == nil {
		b.buf = make([]byte, 0, batchBytes)
	}
	return b.buf[:copyBuffer]
}

// copyStretch copies a stretch of a large file.
func (b *batch) copyStretch(ctx context.Context) error {
	p := b.stretch
	to := b.sink.(*FileSink)
	for p.size > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		data := b.scratch()[:min(p.size, copyBuffer)]
		if err := readAt(p.of.fd, data, p.from); err != nil {
			return b.top.fail(p.of.sourceFile, err)
		}
		if err := to.writeAt(data, p.to); err != nil {
			return err
		}
		n := int64(len(data))
		p.from, p.to, p.size = p.from+n, p.to+n, p.size-n
	}
	if p.of.left.Add(-1) > 0 {
		return nil
	}
	return p.of.finish()
}

// finish ends the reading of a file. Had it changed since it was hashed, equal files would get its new data.
func (o *openLarge) finish() error {
	o.loader.mu.Lock()
	delete(o.loader.open, o)
	o.loader.mu.Unlock()
	var after unix.Stat_t
	err := errors.Join(unix.Fstat(o.fd, &after), unix.Close(o.fd))
	if err == nil && (after.Size != o.before.Size || after.Mtim != o.before.Mtim || after.Ctim != o.before.Ctim) {
		err = errChanged
	}
	if err != nil {
		return o.loader.top.fail(o.sourceFile, err)
	}
	return nil
}

// reader returns a reader of the spans of a layout.
func (o *openLarge) reader(lay layout) *spanReader {
	return &spanReader{o, append([]span(nil), lay.spans...)}
}

// spanReader reads the spans of an open file one after the other.
type spanReader struct {
	of    *openLarge
	spans []span // what is left
}

func (r *spanReader) Read(p []byte) (int, error) {
	if len(r.spans) == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), r.spans[0].len)
	if err := readAt(r.of.fd, p[:n], r.spans[0].off); err != nil {
		return 0, err
	}
	r.advance(n)
	return int(n), nil
}

func (r *spanReader) advance(n int64) {
	s := &r.spans[0]
	if s.off, s.len = s.off+n, s.len-n; s.len == 0 {
		r.spans = r.spans[1:]
	}
}

// putOff implements [deferrer].
func (r *spanReader) putOff(off, size int64) {
	for size > 0 {
		n := min(size, r.spans[0].len, stretchBytes)
		r.of.copies = append(r.of.copies, stretch{r.of, r.spans[0].off, off, n})
		r.advance(n)
		off, size = off+n, size-n
	}
}

// discard implements [discarder].
func (r *spanReader) discard(size int64) {
	for size > 0 {
		n := min(size, r.spans[0].len)
		r.advance(n)
		size -= n
	}
}
