package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
)

// Defaults of WriterOptions, in bytes.
const (
	// SmallFile is the size up to which files are gathered in common frames.
	SmallFile = 64 << 10
	// SmallFrame is the size of the frames that hold small files: few enough bytes to fetch for one of them, enough to compress well.
	SmallFrame = 128 << 10
	// LargeFrame is the size of the frames that larger files are cut into: a miss verifies and writes a whole frame, whatever was asked for, and what requests
	// for few bytes cost on a slow link, read-ahead makes up for. Frames of 1 MiB would save 2 % of the object.
	LargeFrame = 128 << 10
)

// WriterOptions shape a blob. They all are part of "the same input": other values give another blob. Zero values stand for the
// defaults. Workers alone changes nothing but speed.
type WriterOptions struct {
	SmallFile  int // bytes, at most SmallFrame
	SmallFrame int // bytes, a multiple of BlockSize up to MaxFrame
	LargeFrame int // bytes, a multiple of BlockSize up to MaxFrame
	Level      Level
	Workers    int // frames compressed at the same time, default GOMAXPROCS
}

// Complete puts defaults in the place of zero values, and refuses values that make no sense.
func (o WriterOptions) Complete() (WriterOptions, error) {
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.SmallFile, SmallFile}, {&o.SmallFrame, SmallFrame}, {&o.LargeFrame, LargeFrame}, {&o.Workers, runtime.GOMAXPROCS(0)}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, n := range []int{o.SmallFrame, o.LargeFrame} {
		if n < 0 || n > MaxFrame || n%BlockSize != 0 {
			return o, fmt.Errorf("frame size %d is not a multiple of %d up to %d", n, BlockSize, MaxFrame)
		}
	}
	if o.SmallFile < 0 || o.SmallFile > o.SmallFrame {
		return o, fmt.Errorf("small file size %d is not between 1 and the small frame size %d", o.SmallFile, o.SmallFrame)
	}
	if int(o.Level) >= len(levels) {
		return o, fmt.Errorf("there is no compression %v", o.Level)
	}
	if o.Workers < 0 {
		return o, fmt.Errorf("%d workers are too few", o.Workers)
	}
	return o, nil
}

// Ref is a place in a blob that is being written. [Writer.Block] translates it when the writer is closed.
type Ref struct {
	small uint32 // 1 + index of a small frame, or 0 for the whole blob
	block uint32 // from the start of that
}

// Stats counts what a writer did so far.
type Stats struct {
	In        int64 // bytes appended
	Size      int64 // bytes of the blob: In with padding
	Stored    int64 // bytes of the object
	Frames    int
	RawFrames int // of these, stored as they were
}

// Writer makes a blob from file data: it cuts frames, compresses them in parallel and writes them to the object in order. Small files share
// frames in the order in which they come and never straddle two frames; a larger file begins a frame of its own. Neither the machine nor
// the number of workers changes the result.
//
// A Writer is for one goroutine at a time. Its own goroutines and memory, some 4 MiB for each worker, are freed by Close, which must be called.
// After any error the writer is of no more use, and Close returns that error.
type Writer struct {
	o      WriterOptions
	pipe   *pipe
	err    error // first failure outside of the pipe
	closed bool

	small       *job     // open small frame or nil
	smallBlocks []uint32 // first block of each sealed small frame, by index
	smallIndex  int      // of the open small frame
	blocks      int64    // sealed so far
	in          int64
}

// NewWriter returns a writer that writes the object's bytes to object. Invalid options make the first call of Append and Close fail. When
// ctx ends, the writer fails with its cause.
func NewWriter(ctx context.Context, object io.Writer, o WriterOptions) *Writer {
	w := &Writer{}
	var err error
	if w.o, err = o.Complete(); err != nil {
		w.err = fmt.Errorf("write blob: %w", err)
		return w
	}
	w.pipe = newPipe(ctx, object, w.o)
	return w
}

// Append adds size > 0 bytes from r, which lie at the returned place without gaps, and pads them with zeros to a multiple of
// BlockSize. It is an error if r ends early; bytes of r beyond size are not read.
func (w *Writer) Append(r io.Reader, size int64) (Ref, error) {
	if w.closed {
		return Ref{}, errors.New("append to blob: it is closed")
	}
	if w.err != nil {
		return Ref{}, w.err
	}
	ref, err := w.append(r, size)
	if err != nil {
		w.err = fmt.Errorf("append %d bytes to blob: %w", size, err)
		return Ref{}, w.err
	}
	w.in += size
	return ref, nil
}

func (w *Writer) append(r io.Reader, size int64) (Ref, error) {
	if size <= 0 || size > MaxSize {
		return Ref{}, fmt.Errorf("size is not between 1 and %d", int64(MaxSize))
	}
	open := int64(0)
	if w.small != nil {
		open = int64(len(w.small.data))
	}
	if w.blocks*BlockSize+open+roundUp(size) > MaxSize {
		return Ref{}, fmt.Errorf("the blob would be larger than %d bytes", int64(MaxSize))
	}
	if size <= int64(w.o.SmallFile) {
		return w.appendSmall(r, int(size))
	}
	return w.appendLarge(r, size)
}

func (w *Writer) appendSmall(r io.Reader, size int) (Ref, error) {
	if w.small != nil && len(w.small.data)+int(roundUp(int64(size))) > w.o.SmallFrame {
		if err := w.sealSmall(); err != nil {
			return Ref{}, err
		}
	}
	if w.small == nil {
		j, err := w.pipe.job()
		if err != nil {
			return Ref{}, err
		}
		w.small = j
	}
	at := len(w.small.data)
	if err := fill(w.small, r, size); err != nil {
		return Ref{}, err
	}
	return Ref{small: uint32(w.smallIndex) + 1, block: uint32(at / BlockSize)}, nil
}

func (w *Writer) appendLarge(r io.Reader, size int64) (Ref, error) {
	ref := Ref{block: uint32(w.blocks)}
	for size > 0 {
		j, err := w.pipe.job()
		if err != nil {
			return Ref{}, err
		}
		n := min(size, int64(w.o.LargeFrame))
		if err := fill(j, r, int(n)); err != nil {
			return Ref{}, err
		}
		if err := w.seal(j); err != nil {
			return Ref{}, err
		}
		size -= n
	}
	return ref, nil
}

// fill appends n bytes of r to the job's data and pads them.
func fill(j *job, r io.Reader, n int) error {
	at, end := len(j.data), len(j.data)+int(roundUp(int64(n)))
	j.data = slices.Grow(j.data, end-at)[:end]
	if _, err := io.ReadFull(r, j.data[at:at+n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read data: %w", err)
	}
	clear(j.data[at+n:])
	return nil
}

func (w *Writer) sealSmall() error {
	j := w.small
	w.small = nil
	w.smallBlocks = append(w.smallBlocks, uint32(w.blocks))
	w.smallIndex++
	return w.seal(j)
}

// seal gives the job its place in the blob and hands it to the pipe.
func (w *Writer) seal(j *job) error {
	w.blocks += int64(len(j.data)) / BlockSize
	return w.pipe.submit(j)
}

// Close writes what is left and returns the map; it must be called in any case. If nothing was appended, the map has no frames and the
// object no bytes. The object itself is not closed.
func (w *Writer) Close() (*Map, error) {
	if w.closed {
		return nil, errors.New("close blob: it is closed")
	}
	w.closed = true
	if w.err == nil && w.small != nil {
		w.err = w.sealSmall()
	}
	if w.pipe == nil {
		return nil, w.err
	}
	if err := w.pipe.close(w.err); err != nil {
		if w.err == nil {
			w.err = fmt.Errorf("write blob: %w", err)
		}
		return nil, w.err
	}
	var sources []int64
	if len(w.pipe.frames) > 0 {
		sources = []int64{w.pipe.stored}
	}
	m, err := NewMap(sources, w.pipe.frames)
	w.err = err
	return m, err
}

// Block is the block of the blob at which the data of ref begins, once Close has succeeded.
func (w *Writer) Block(ref Ref) uint64 {
	if ref.small == 0 {
		return uint64(ref.block)
	}
	return uint64(w.smallBlocks[ref.small-1]) + uint64(ref.block)
}

// Stats returns the counts; those of frames and stored bytes are complete, and the call allowed, once Close has returned.
func (w *Writer) Stats() Stats {
	s := Stats{In: w.in, Size: w.blocks * BlockSize}
	if w.pipe != nil {
		s.Stored, s.Frames, s.RawFrames = w.pipe.stored, len(w.pipe.frames), w.pipe.raw
	}
	return s
}

func roundUp(n int64) int64 { return (n + BlockSize - 1) &^ (BlockSize - 1) }
