package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
)

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

// Writer makes a blob of files, one after the other, in the simplest way: small files share frames in the order in which they come and never straddle two
// frames; a larger file begins a frame of its own. Nothing is found to be equal to something else, and nothing is done in parallel: that is for
// who knows all files. The same files and options give the same bytes.
//
// A Writer is for one goroutine at a time, and must be closed. After any error it is of no more use, and Close returns that error.
type Writer struct {
	ctx    context.Context
	o      WriterOptions
	object io.Writer
	enc    *Encoder
	err    error // first failure
	closed bool

	data, small []byte   // a frame that is filled, and the open small frame
	packed      []byte   // what was made of a frame
	smallBlocks []uint32 // first block of each sealed small frame, by index
	frames      []Frame
	stats       Stats
}

// NewWriter returns a writer that writes the object's bytes to object. Invalid options make the first call of Append and Close fail. When
// ctx ends, the writer fails with its cause.
func NewWriter(ctx context.Context, object io.Writer, o WriterOptions) *Writer {
	w := &Writer{ctx: ctx, object: object}
	if w.o, w.err = o.Complete(); w.err == nil {
		w.enc, w.err = NewEncoder(w.o.Level, max(w.o.SmallFrame, w.o.LargeFrame))
	}
	if w.err != nil {
		w.err = fmt.Errorf("write blob: %w", w.err)
	}
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
	w.stats.In += size
	return ref, nil
}

func (w *Writer) append(r io.Reader, size int64) (Ref, error) {
	if size <= 0 || size > MaxSize {
		return Ref{}, fmt.Errorf("size is not between 1 and %d", int64(MaxSize))
	}
	if w.stats.Size+int64(len(w.small))+roundUp(size) > MaxSize {
		return Ref{}, fmt.Errorf("the blob would be larger than %d bytes", int64(MaxSize))
	}
	if size <= int64(w.o.SmallFile) {
		return w.appendSmall(r, int(size))
	}
	ref := Ref{block: uint32(w.stats.Size / BlockSize)}
	for size > 0 {
		n := min(size, int64(w.o.LargeFrame))
		var err error
		if w.data, err = fill(w.data[:0], r, int(n)); err != nil {
			return Ref{}, err
		}
		if err := w.write(w.data); err != nil {
			return Ref{}, err
		}
		size -= n
	}
	return ref, nil
}

func (w *Writer) appendSmall(r io.Reader, size int) (Ref, error) {
	if len(w.small)+int(roundUp(int64(size))) > w.o.SmallFrame {
		if err := w.sealSmall(); err != nil {
			return Ref{}, err
		}
	}
	ref := Ref{small: uint32(len(w.smallBlocks)) + 1, block: uint32(len(w.small) / BlockSize)}
	var err error
	w.small, err = fill(w.small, r, size)
	return ref, err
}

// fill appends n bytes of r to a frame and pads them.
func fill(data []byte, r io.Reader, n int) ([]byte, error) {
	at, end := len(data), len(data)+int(roundUp(int64(n)))
	data = slices.Grow(data, end-at)[:end]
	if _, err := io.ReadFull(r, data[at:at+n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return data, fmt.Errorf("read data: %w", err)
	}
	clear(data[at+n:])
	return data, nil
}

func (w *Writer) sealSmall() error {
	if len(w.small) == 0 {
		return nil
	}
	w.smallBlocks = append(w.smallBlocks, uint32(w.stats.Size/BlockSize))
	err := w.write(w.small)
	w.small = w.small[:0]
	return err
}

// write appends a frame to the blob.
func (w *Writer) write(data []byte) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	w.packed = slices.Grow(w.packed[:0], EncodeBuffer(len(data)))
	stored, codec := w.enc.Encode(w.packed, data)
	if _, err := w.object.Write(stored); err != nil {
		return fmt.Errorf("write frame %d to object: %w", len(w.frames), err)
	}
	w.frames = append(w.frames, Frame{
		Off: w.stats.Size, Len: len(data), SrcOff: w.stats.Stored, SrcLen: len(stored), Codec: codec, Digest: sha256.Sum256(data),
	})
	w.stats.Size += int64(len(data))
	w.stats.Stored += int64(len(stored))
	w.stats.Frames++
	if codec == Raw {
		w.stats.RawFrames++
	}
	return nil
}

// Close writes what is left and returns the map; it must be called in any case. If nothing was appended, the map has no frames and the
// object no bytes. The object itself is not closed.
func (w *Writer) Close() (*Map, error) {
	if w.closed {
		return nil, errors.New("close blob: it is closed")
	}
	w.closed = true
	if w.enc != nil {
		defer w.enc.Close()
	}
	if w.err == nil {
		if err := w.sealSmall(); err != nil {
			w.err = fmt.Errorf("write blob: %w", err)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	var sources []int64
	if len(w.frames) > 0 {
		sources = []int64{w.stats.Stored}
	}
	return NewMap(sources, w.frames)
}

// Block is the block of the blob at which the data of ref begins, once Close has succeeded.
func (w *Writer) Block(ref Ref) uint64 {
	if ref.small == 0 {
		return uint64(ref.block)
	}
	return uint64(w.smallBlocks[ref.small-1]) + uint64(ref.block)
}

// Stats returns the counts, which are complete when Close has returned.
func (w *Writer) Stats() Stats { return w.stats }

func roundUp(n int64) int64 { return (n + BlockSize - 1) &^ (BlockSize - 1) }
