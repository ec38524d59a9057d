package mkfs

import (
	"fmt"
	"io"

	"github.com/pagein/pagein/erofs"
)

// maxChunks bounds the chunk index that a sparse file gets in the metadata: 2^18 entries are 2 MiB.
const maxChunks = 1 << 18

// span is a run of bytes of a file.
type span struct{ off, len int64 }

// layout says which parts of a file are stored. What the spans leave out is a hole.
type layout struct {
	size  int64
	spans []span // ascending, apart from each other, beginning at block borders; all but one that ends at size end at one
}

// whole is the layout of a file without holes.
func whole(size int64) layout {
	if size == 0 {
		return layout{}
	}
	return layout{size, []span{{0, size}}}
}

// sparse makes a layout of runs of data that are in ascending order: it widens them to blocks and joins those that then touch. In huge
// files the blocks are larger, as each would cost an index entry.
func sparse(size int64, data []span) layout {
	unit := int64(erofs.BlockSize)
	for size/unit > maxChunks {
		unit *= 2
	}
	l := layout{size: size}
	for _, s := range data {
		if s.len == 0 {
			continue
		}
		from := s.off &^ (unit - 1)
		to := min((s.off+s.len+unit-1)&^(unit-1), size)
		if n := len(l.spans); n > 0 && l.spans[n-1].off+l.spans[n-1].len >= from {
			l.spans[n-1].len = to - l.spans[n-1].off
			continue
		}
		l.spans = append(l.spans, span{from, to - from})
	}
	return l
}

// isWhole reports whether there are no holes.
func (l layout) isWhole() bool {
	return len(l.spans) == 1 && l.spans[0] == span{0, l.size}
}

// stored is the number of bytes in all spans.
func (l layout) stored() int64 {
	var n int64
	for _, s := range l.spans {
		n += s.len
	}
	return n
}

// check refuses files that the format or the kernel could not address.
func (l layout) check() error {
	if l.size > MaxFileSize {
		return fmt.Errorf("%d bytes are more than the limit of %d", l.size, int64(MaxFileSize))
	}
	return nil
}

// widened reads the spans of a layout, one after the other, from a stream that holds only the original runs of data: it puts zeros where a
// span is wider than the data in it.
type widened struct {
	r     io.Reader
	data  []span // not yet consumed
	spans []span // not yet produced
}

func (w *widened) Read(p []byte) (int, error) {
	for len(w.data) > 0 && w.data[0].len == 0 {
		w.data = w.data[1:]
	}
	for len(w.spans) > 0 && w.spans[0].len == 0 {
		w.spans = w.spans[1:]
	}
	if len(w.spans) == 0 {
		return 0, io.EOF
	}
	s := &w.spans[0]
	n := min(int64(len(p)), s.len)
	var err error
	if len(w.data) > 0 && w.data[0].off < s.off+s.len {
		d := &w.data[0]
		if d.off > s.off {
			n = min(n, d.off-s.off)
			clear(p[:n])
		} else {
			var m int
			m, err = w.r.Read(p[:min(n, d.len)])
			if err == io.EOF && int64(m) < d.len {
				err = io.ErrUnexpectedEOF
			} else if err == io.EOF {
				err = nil
			}
			n = int64(m)
			d.off, d.len = d.off+n, d.len-n
		}
	} else {
		clear(p[:n])
	}
	s.off, s.len = s.off+n, s.len-n
	return int(n), err
}
