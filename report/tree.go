package report

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// Tree are the files of an image that are not empty, and where in blobs their data is.
type Tree struct {
	Files []File
	spans map[int][]span // by blob, sorted by offset, not overlapping
}

// File is a regular file of an image.
type File struct {
	Path   string // from "/"
	Size   int64  // bytes of its data in blobs: without what lies in the metadata image, and without holes
	Length int64  // bytes, all of them
}

// span is a stretch of a blob that belongs to a file. Of files that share it, it is the first one's.
type span struct {
	off, end int64 // in the blob
	file     int
	at       int64 // where it is in the file
}

// Piece is a part of a file.
type Piece struct {
	File     int // in Tree.Files
	Off, Len int64
}

// ReadTree walks a metadata image. A file with several names counts once.
func ReadTree(ctx context.Context, meta *erofs.FS) (*Tree, error) {
	root, err := meta.Root()
	if err != nil {
		return nil, fmt.Errorf("read metadata image: %w", err)
	}
	t := &Tree{spans: make(map[int][]span)}
	seen := make(map[uint64]bool)
	err = erofs.Visit(root, erofs.Visitor{Enter: func(path string, _ int, e erofs.Entry, h erofs.Handle, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		st := h.Stat()
		if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 && seen[e.Ino] {
			return nil
		}
		if st.Nlink > 1 {
			seen[e.Ino] = true
		}
		return t.add("/"+path, h)
	}})
	if err != nil {
		return nil, fmt.Errorf("read metadata image: %w", err)
	}
	for blob, spans := range t.spans {
		t.spans[blob] = untangle(spans)
	}
	return t, nil
}

func (t *Tree) add(path string, h erofs.Handle) error {
	f := File{Path: path, Length: h.Stat().Size}
	if f.Length == 0 {
		return nil
	}
	extents, err := h.Extents()
	if err != nil {
		return err
	}
	for _, e := range extents {
		if e.Device == 0 {
			continue
		}
		blob, off := int(e.Device)-1, int64(e.Block)*erofs.BlockSize
		t.spans[blob] = append(t.spans[blob], span{off, off + e.Len, len(t.Files), e.Off})
		f.Size += e.Len
	}
	t.Files = append(t.Files, f)
	return nil
}

// untangle sorts spans and gives what several have to the first of them.
func untangle(spans []span) []span {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.off, b.off) })
	clean := spans[:0]
	end := int64(0)
	for _, s := range spans {
		if s.off < end {
			s.at += end - s.off
			s.off = end
		}
		if s.off < s.end {
			clean = append(clean, s)
			end = s.end
		}
	}
	return clean
}

// At returns the parts of files that lie in a range of a blob.
func (t *Tree) At(blob int, off, n int64) (pieces []Piece) {
	spans := t.spans[blob]
	i, _ := slices.BinarySearchFunc(spans, off, func(s span, off int64) int { return cmp.Compare(s.end, off+1) })
	for ; i < len(spans) && spans[i].off < off+n; i++ {
		s := spans[i]
		from, to := max(off, s.off), min(off+n, s.end)
		pieces = append(pieces, Piece{s.file, s.at + from - s.off, to - from})
	}
	return pieces
}
