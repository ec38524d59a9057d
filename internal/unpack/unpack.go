// Package unpack writes an EROFS tree out again: into a directory ([Dir]) or as a tar stream ([Tar]), bit-exact in contents and attributes.
//
// The image may be hostile. Everything is made relative to a descriptor of the directory that it belongs in, with calls that follow no symbolic link, so that
// nothing leaves the target; sparse files stay sparse, so that a few bytes of metadata cannot fill a disk; and no byte of a file is kept longer than it
// takes to write it.
package unpack

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// Options of [Dir] and [Tar]. The zero value is useful. Functions are called from one goroutine.
type Options struct {
	// Zero returns how many bytes from off of an extent are of one kind, at least 1, and whether they are known to be zeros without being read. nil means that
	// nothing is known.
	Zero func(e erofs.Extent, off int64) (n int64, zero bool)
	// Note is told what could not be kept, one sentence for each kind. nil means nobody wants to know.
	Note func(message string)
	// Progress is told after each file what was written so far. nil means nobody wants to know.
	Progress func(Stats)
}

func (o *Options) complete() {
	if o.Zero == nil {
		o.Zero = func(e erofs.Extent, off int64) (int64, bool) { return e.Off + e.Len - off, false }
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Progress == nil {
		o.Progress = func(Stats) {}
	}
}

// Stats counts what was written.
type Stats struct {
	Names int64 // files, directories and everything else that could be made, the root and further names of hard links among them
	Bytes int64 // file data, holes left out
	Lost  int64 // attributes, owners and files that could not be kept
}

// pieceSize is how much of a file is read at a time, in bytes.
const pieceSize = 1 << 20

// span is a run of bytes of a file that may be other than zero.
type span struct{ off, len int64 }

// spans lists what of a regular file is neither a hole nor known zeros, in order. What of its end lies in no whole block may be kept with the metadata and is
// always in the list.
func spans(h erofs.Handle, st erofs.Stat, block int64, zero func(erofs.Extent, int64) (int64, bool)) ([]span, error) {
	extents, err := h.Extents()
	if err != nil {
		return nil, err
	}
	var list []span
	add := func(off, n int64) {
		if k := len(list) - 1; k >= 0 && list[k].off+list[k].len == off {
			list[k].len += n
			return
		}
		list = append(list, span{off, n})
	}
	covered := int64(0)
	for _, e := range extents {
		covered = e.Off + e.Len
		for off := e.Off; off < covered; {
			n, isZero := zero(e, off)
			if n = min(max(n, 1), covered-off); !isZero {
				add(off, n)
			}
			off += n
		}
	}
	if tail := max(covered, (st.Size-1)&^(block-1)); tail < st.Size {
		add(tail, st.Size-tail)
	}
	return list, nil
}

// maxSpans bounds the map of a sparse member: readers keep it in memory, and ours accepts 1 MiB.
const maxSpans = 20_000

// coarsen joins spans over the smallest holes between them until there are not too many. Total is the length of all of them.
func coarsen(list []span, total int64) ([]span, int64) {
	for hole := int64(64 << 10); len(list) > maxSpans; hole *= 2 {
		joined := list[:1]
		for _, s := range list[1:] {
			last := &joined[len(joined)-1]
			if between := s.off - last.off - last.len; between < hole {
				last.len += between + s.len
				total += between
				continue
			}
			joined = append(joined, s)
		}
		list = joined
	}
	return list, total
}

// copySpan hands a span of a file to write in pieces.
func copySpan(h erofs.Handle, s span, buf []byte, write func(b []byte, off int64) error) error {
	for s.len > 0 {
		b := buf[:min(int64(len(buf)), s.len)]
		n, err := h.ReadAt(b, s.off)
		if n < len(b) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read %d bytes at %d: %w", len(b), s.off, err)
		}
		if err := write(b, s.off); err != nil {
			return err
		}
		s.off += int64(n)
		s.len -= int64(n)
	}
	return nil
}

// notes says each kind of thing once, and counts.
type notes struct {
	say  func(string)
	said map[string]bool
	lost int64
}

// lose notes that something could not be kept: kind is what sort of thing, the rest tells of the first one.
func (n *notes) lose(kind, path string, err error) {
	n.lost++
	if n.said == nil {
		n.said = map[string]bool{}
	}
	if !n.said[kind] && len(n.said) < maxNotes {
		n.said[kind] = true
		n.say(fmt.Sprintf("%s cannot be kept: %q is the first of these: %v", kind, path, err))
	}
}

// maxNotes bounds the kinds of things that are said: a hostile image may have any number of attribute names.
const maxNotes = 50

func fileType(st erofs.Stat) uint32 { return st.Mode & unix.S_IFMT }
