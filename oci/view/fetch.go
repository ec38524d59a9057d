package view

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// Tries of one fetch. Each that brings a frame starts the count anew.
const (
	attempts        = 4
	corruptAttempts = 2                      // a server that sends wrong bytes twice will do so again; a file that has them, at once
	backoff         = 200 * time.Millisecond // before the second, doubled before each further one
)

// retry calls try until it succeeds, fails for good, or has failed too often without progress, which it reports by returning true.
func (v *View) retry(try func() (progress bool, err error)) error {
	wait := backoff
	for n := 1; ; n++ {
		progress, err := try()
		if err == nil || v.ctx.Err() != nil || backend.IsPermanent(err) {
			return err
		}
		if progress {
			n, wait = 1, backoff
		}
		if n >= attempts || errors.Is(err, blob.ErrCorrupt) && (n >= corruptAttempts || v.place.Layout != nil) {
			return err
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-v.ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(v.ctx))
		}
	}
}

// fetch brings the frames [first, stop) of a blob, which follow each other in one object, verified and in order.
func (v *View) fetch(b loadedBlob, first, stop int, use func(i int, data []byte)) error {
	return v.retry(func() (bool, error) {
		from := first
		err := v.fetchOnce(b, &first, stop, use)
		return first > from, err
	})
}

// fetchOnce asks the object once, and moves first behind what came.
func (v *View) fetchOnce(b loadedBlob, first *int, stop int, use func(i int, data []byte)) error {
	f, last := b.m.Frame(*first), b.m.Frame(stop-1)
	object := b.objects[f.Source]
	body, err := object.Range(v.ctx, f.SrcOff, last.SrcOff+int64(last.SrcLen)-f.SrcOff)
	if err != nil {
		return err
	}
	defer body.Close()
	var src []byte
	for ; *first < stop; *first++ {
		f := b.m.Frame(*first)
		if cap(src) < f.SrcLen {
			src = make([]byte, f.SrcLen)
		}
		data, err := v.read(body, src[:f.SrcLen], f)
		if err != nil {
			if errors.Is(err, blob.ErrCorrupt) {
				backend.Reject(body) // another place may have better
			}
			return fmt.Errorf("%s: frame %d: %w", object, *first, err)
		}
		use(*first, data)
	}
	return nil
}

// read reads and decodes one frame into new memory.
func (v *View) read(r io.Reader, src []byte, f blob.Frame) ([]byte, error) {
	if _, err := io.ReadFull(r, src); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d: %w", f.SrcLen, f.SrcOff, err)
	}
	data := make([]byte, f.Len)
	if err := v.dec.Decode(data, src, f); err != nil {
		return nil, fmt.Errorf("%d bytes at %d: %w", f.SrcLen, f.SrcOff, err)
	}
	return data, nil
}
