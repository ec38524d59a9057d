package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"github.com/pagein/pagein/ondemand"
)

// copyBuffer is how much of a metadata image is copied at a time.
const copyBuffer = 1 << 20

// meta is a metadata image, copied from a complete local file. The kernel reads metadata page by page without readahead, so all of it is put in
// place at once.
type meta struct{ path string }

func (m meta) prepare(ctx context.Context, o *object) error { return m.fill(ctx, o, 0, o.size) }

func (m meta) closed(*object) {}

func (m meta) fill(ctx context.Context, o *object, off, n int64) error {
	f, err := os.Open(m.path)
	if err != nil {
		return fmt.Errorf("fill metadata image: %w", err)
	}
	defer func() { _ = f.Close() }()
	buf := aligned(int(min(n, copyBuffer)))
	for end := off + n; off < end; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		p := buf[:min(end-off, int64(len(buf)))]
		ok, err := o.has(off, int64(len(p)))
		if err != nil {
			return err
		}
		if !ok {
			if _, err := f.ReadAt(p, off); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return fmt.Errorf("fill metadata image: read %s: %w", m.path, err)
			}
			if _, err := o.WriteAt(p, off); err != nil {
				return err
			}
		}
		off += int64(len(p))
	}
	return nil
}

// aligned returns n bytes at an address that is a multiple of blockSize.
func aligned(n int) []byte {
	raw := make([]byte, n+blockSize)
	skip := -uintptr(unsafe.Pointer(&raw[0])) % blockSize
	return raw[skip:][:n:n]
}

// engineBlob is a blob whose missing frames the engine fetches.
type engineBlob struct {
	blob     *ondemand.Blob
	presence *presence // set by prepare
}

// prepare learns from the kernel which frames are there, and directs the engine to this object.
func (c *engineBlob) prepare(ctx context.Context, o *object) error {
	m := c.blob.Map()
	p := newPresence(m.Frames())
	if err := o.extents(func(off, n int64) error {
		p.setWithin(m, off, n)
		return context.Cause(ctx)
	}); err != nil {
		return err
	}
	c.presence = p
	return c.bind(o)
}

// bind directs the engine to the object, unless that is closed or has no file any more.
func (c *engineBlob) bind(o *object) error {
	return o.use(func(fd int) error {
		_, err := covered(fd, 0, 1)
		if err == nil {
			c.blob.Bind(o, c.presence)
		}
		return err
	})
}

func (c *engineBlob) closed(o *object) { c.blob.Unbind(o) }

// fill has the engine fetch what the kernel lacks. Bits that claim a frame in which the kernel sees a hole are wrong, whatever the reason: a write
// that the disk did not take, or a file that was damaged.
func (c *engineBlob) fill(ctx context.Context, o *object, off, n int64) error {
	m := c.blob.Map()
	for i, last := m.Find(off), m.Find(off+n-1); i <= last; i++ {
		if !c.presence.Has(i) {
			continue
		}
		f := m.Frame(i)
		ok, err := o.has(f.Off, int64(f.Len))
		if err != nil {
			return err
		}
		if !ok {
			c.presence.Clear(i)
		}
	}
	err := c.blob.Fill(ctx, off, n)
	if errors.Is(err, ondemand.ErrUnbound) { // an earlier object of the same key was slow to become ready, and then took the place of this one
		err = errors.Join(err, c.bind(o))
	}
	return err
}
