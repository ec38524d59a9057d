package treediff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pagein/pagein/erofs"
)

// pieceSize is how much of two files is read at a time, in bytes.
const pieceSize = 1 << 20

// settleContents compares the contents of two regular files of the same length.
func (c *comparison) settleContents(ctx context.Context, d *Difference, a, b file) {
	at, err := c.contents(ctx, a, b)
	if err != nil {
		d.Err = err
		return
	}
	if at >= 0 {
		d.Attrs = append(d.Attrs, Attr{Name: "content", A: "-", B: fmt.Sprintf("differs from byte %d on", at)})
	}
}

// contents returns where two files first differ, or -1.
func (c *comparison) contents(ctx context.Context, a, b file) (int64, error) {
	x, err := newSegments(a, c.a.fs)
	if err != nil {
		return 0, fmt.Errorf("first tree: %w", err)
	}
	y, err := newSegments(b, c.b.fs)
	if err != nil {
		return 0, fmt.Errorf("second tree: %w", err)
	}
	var bufA, bufB []byte
	for pos := int64(0); pos < a.st.Size; {
		s, t := x.at(pos), y.at(pos)
		end := min(s.end, t.end)
		if c.equal(s, t, pos) {
			pos = end
			continue
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n := min(end-pos, pieceSize)
		if int64(len(bufA)) < n {
			bufA, bufB = make([]byte, n), make([]byte, n)
		}
		if err := readFull(a.h, bufA[:n], pos); err != nil {
			return 0, fmt.Errorf("first tree: %w", err)
		}
		if err := readFull(b.h, bufB[:n], pos); err != nil {
			return 0, fmt.Errorf("second tree: %w", err)
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			for i := range n {
				if bufA[i] != bufB[i] {
					return pos + i, nil
				}
			}
		}
		pos += n
	}
	return -1, nil
}

// equal reports whether two stretches of files are equal without reading them: both are holes, or they lie at the same place.
func (c *comparison) equal(s, t segment, pos int64) bool {
	if s.extent == nil || t.extent == nil {
		return s.hole && t.hole
	}
	return c.o.SameBlob != nil && s.extent.Device > 0 && t.extent.Device > 0 && c.o.SameBlob(s.extent.Device, t.extent.Device) &&
		placeOf(s.extent, pos) == placeOf(t.extent, pos)
}

// placeOf returns where on its device a byte of a file is.
func placeOf(e *erofs.Extent, pos int64) int64 { return int64(e.Block)*erofs.BlockSize + pos - e.Off }

// segments are the stretches of a file, which are asked for in ascending order.
type segments struct {
	extents []erofs.Extent
	size    int64
	block   int64 // block size of the image
}

// segment is a stretch that lies in one piece, is a hole, or is neither: inline data.
type segment struct {
	end    int64
	extent *erofs.Extent
	hole   bool
}

func newSegments(f file, fsys *erofs.FS) (*segments, error) {
	extents, err := f.h.Extents()
	return &segments{extents: extents, size: f.st.Size, block: int64(fsys.Super().BlockSize)}, err
}

// at returns the stretch that pos is in. What has no extent is a hole or, in the last block, may be inline.
func (s *segments) at(pos int64) segment {
	for len(s.extents) > 0 && s.extents[0].Off+s.extents[0].Len <= pos {
		s.extents = s.extents[1:]
	}
	end := s.size
	if len(s.extents) > 0 {
		if e := &s.extents[0]; e.Off <= pos {
			return segment{end: e.Off + e.Len, extent: e}
		}
		end = s.extents[0].Off
	}
	if last := (s.size - 1) / s.block * s.block; pos < last {
		return segment{end: min(end, last), hole: true}
	}
	return segment{end: end}
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
