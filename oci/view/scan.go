package view

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// scanMemory bounds the frames that are in memory at the same time, in bytes, encoded and decoded. It is more than any one frame can need.
const scanMemory = 64 << 20

// piece is one frame as it lies in an object.
type piece struct {
	off         int64 // in the object
	blob, frame int32
}

// pieces lists the frames of an object in the order in which they lie there.
func (r *verification) pieces(obj *sourceObject) ([]piece, error) {
	var list []piece
	for _, u := range obj.uses {
		m, err := r.v.Map(u.blob)
		if err != nil {
			return nil, err
		}
		for i := range m.Frames() {
			if f := m.Frame(i); f.Source == u.source {
				list = append(list, piece{f.SrcOff, int32(u.blob), int32(i)})
			}
		}
	}
	inOrder := func(a, b piece) int { return int(min(max(a.off-b.off, -1), 1)) }
	if !slices.IsSortedFunc(list, inOrder) {
		slices.SortStableFunc(list, inOrder)
	}
	return list, nil
}

// object reads an object from its beginning to its end, digests it, and has every frame in it verified.
func (r *verification) object(obj *sourceObject) error {
	list, err := r.pieces(obj)
	if err != nil {
		return err
	}
	source, err := r.v.o.Remote.Object(r.v.place, obj.desc)
	if err != nil {
		return err
	}
	s := &stream{v: r.v, object: source, read: r.read}
	defer s.close()
	verifier := obj.desc.Digest.Verifier()
	whole := io.TeeReader(s, verifier)
	used, err := r.cut(list, s, whole)
	if err == nil {
		_, err = io.Copy(io.Discard, whole)
	}
	if err == nil && !verifier.Verified() {
		err = errDigest
	}
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Objects++
	r.result.ObjectBytes += source.Size()
	r.result.UnusedBytes += source.Size() - used
	return nil
}

// cut takes frames off a stream and returns how many bytes of it they cover. Bytes that a frame shares with one before it are read again.
func (r *verification) cut(list []piece, s *stream, whole io.Reader) (used int64, err error) {
	d := newDecoders(r)
	defer d.wait()
	end := int64(0) // of what is covered
	for _, p := range list {
		f := d.frame(p)
		if err := d.acquire(f); err != nil {
			return used, err
		}
		src := make([]byte, f.SrcLen)
		if p.off < s.pos {
			err = r.again(s.object, p.off, src)
		} else if _, err = io.CopyN(io.Discard, whole, p.off-s.pos); err == nil {
			_, err = io.ReadFull(whole, src)
		}
		if err != nil {
			d.release(f)
			return used, fmt.Errorf("read %d bytes at %d: %w", f.SrcLen, f.SrcOff, err)
		}
		used += max(0, p.off+int64(f.SrcLen)-max(end, p.off))
		end = max(end, p.off+int64(f.SrcLen))
		d.verify(p, f, src)
	}
	return used, nil
}

// again reads a range that the stream is past.
func (r *verification) again(object backend.Object, off int64, b []byte) error {
	return r.v.retry(func() (bool, error) {
		body, err := object.Range(r.v.ctx, off, int64(len(b)))
		if err != nil {
			return false, err
		}
		defer body.Close()
		_, err = io.ReadFull(body, b)
		return false, err
	})
}

// decoders verify frames side by side.
type decoders struct {
	r      *verification
	memory *semaphore.Weighted
	group  errgroup.Group
}

func newDecoders(r *verification) *decoders {
	d := &decoders{r: r, memory: semaphore.NewWeighted(scanMemory)}
	d.group.SetLimit(runtime.GOMAXPROCS(0))
	return d
}

func (d *decoders) frame(p piece) blob.Frame {
	m, _ := d.r.v.Map(int(p.blob)) // pieces has loaded it
	return m.Frame(int(p.frame))
}

// acquire waits until there is room for a frame, and fails when the view's context ends.
func (d *decoders) acquire(f blob.Frame) error {
	if d.memory.Acquire(d.r.v.ctx, int64(f.Len+f.SrcLen)) != nil {
		return context.Cause(d.r.v.ctx)
	}
	return nil
}

func (d *decoders) release(f blob.Frame) { d.memory.Release(int64(f.Len + f.SrcLen)) }

// verify checks a frame of which src are the encoded bytes, and releases its room.
func (d *decoders) verify(p piece, f blob.Frame, src []byte) {
	d.group.Go(func() error {
		defer d.release(f)
		if err := d.r.v.dec.Decode(make([]byte, f.Len), src, f); err != nil {
			d.r.problem(Problem{Part: PartFrame, Blob: int(p.blob), Frame: int(p.frame), Err: err})
			return nil
		}
		d.r.mu.Lock()
		defer d.r.mu.Unlock()
		d.r.result.Frames++
		d.r.result.FrameBytes += int64(f.Len)
		return nil
	})
}

func (d *decoders) wait() { _ = d.group.Wait() } // what a frame has to say was said to the verification

// stream reads an object once from its beginning to its end, over as many requests as it takes.
type stream struct {
	v      *View
	object backend.Object
	read   func(n int)
	body   io.ReadCloser
	pos    int64
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (n int, err error) {
	if s.pos == s.object.Size() {
		return 0, io.EOF
	}
	err = s.v.retry(func() (bool, error) {
		n, err = s.once(p)
		return false, err
	})
	s.pos += int64(n)
	s.read(n)
	return n, err
}

func (s *stream) once(p []byte) (n int, err error) {
	if s.body == nil {
		if s.body, err = s.object.Range(s.v.ctx, s.pos, s.object.Size()-s.pos); err != nil {
			return 0, err
		}
	}
	if n, err = s.body.Read(p); n > 0 {
		return n, nil
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		s.close()
	}
	return 0, err
}

func (s *stream) close() {
	if s.body != nil {
		_ = s.body.Close() // only read
		s.body = nil
	}
}
