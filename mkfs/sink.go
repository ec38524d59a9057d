package mkfs

import (
	"io"

	"github.com/pagein/pagein/blob"
)

// Ref stands for data that a [Sink] took. Only that sink can interpret it.
type Ref uint64

// Sink stores file data in blocks of erofs.BlockSize bytes.
type Sink interface {
	// Append stores the next size bytes of r, size > 0, in consecutive blocks, the last one padded with zeros. It reads nothing beyond.
	Append(r io.Reader, size int64) (Ref, error)
	// Place returns where data lies: the device's number (0 is the image itself) and the first block. It is called after the sink was
	// closed.
	Place(Ref) (device uint16, block uint64)
}

// BlobSink makes a blob under construction a [Sink].
type BlobSink struct {
	// Device is the blob's number in the image's device table, from 1. It may be set as late as before [Tree.Finish]: blobs that stay empty
	// get none.
	Device uint16

	w    *blob.Writer
	refs []blob.Ref
}

// NewBlobSink returns a sink that appends to w. The caller closes w.
func NewBlobSink(w *blob.Writer, device uint16) *BlobSink {
	return &BlobSink{Device: device, w: w}
}

// Append implements [Sink].
func (s *BlobSink) Append(r io.Reader, size int64) (Ref, error) {
	ref, err := s.w.Append(r, size)
	if err != nil {
		return 0, err
	}
	s.refs = append(s.refs, ref)
	return Ref(len(s.refs) - 1), nil
}

// Place implements [Sink].
func (s *BlobSink) Place(r Ref) (device uint16, block uint64) {
	return s.Device, s.w.Block(s.refs[r])
}
