package mkfs

import (
	"fmt"
	"io"
	"os"

	"github.com/pagein/pagein/erofs"
)

// fileSinkBuffer is how much data is gathered for one write.
const fileSinkBuffer = 1 << 20

// FileSink stores data uncompressed in consecutive blocks of a file: an image itself, or one extra device of it. Its Refs are block
// numbers.
type FileSink struct {
	device uint16
	f      *os.File
	buf    []byte
	at     int64 // where buf belongs in the file
}

// NewFileSink returns a sink that writes to f from the given block on. Its data lies on the given device, 0 being the image itself.
func NewFileSink(f *os.File, device uint16, block uint64) *FileSink {
	return &FileSink{device: device, f: f, buf: make([]byte, 0, fileSinkBuffer), at: int64(block) * erofs.BlockSize}
}

// kernelCopier is a reader whose data the kernel can copy to a file.
type kernelCopier interface {
	// copyTo copies the next size bytes to off. It reports false, and has done nothing, if they must be read instead.
	copyTo(to *os.File, off, size int64) (bool, error)
}

// Append implements [Sink].
func (s *FileSink) Append(r io.Reader, size int64) (Ref, error) {
	ref := Ref((s.at + int64(len(s.buf))) / erofs.BlockSize)
	if src, ok := r.(kernelCopier); ok {
		if err := s.flush(); err != nil {
			return 0, err
		}
		copied, err := src.copyTo(s.f, s.at, size)
		if err != nil {
			return 0, err
		}
		if copied {
			// The rest of the last block is a hole, unless the file ends here: Close sets its length.
			s.at += (size + erofs.BlockSize - 1) &^ (erofs.BlockSize - 1)
			return ref, nil
		}
	}
	for left := size; left > 0; {
		n := min(int64(cap(s.buf)-len(s.buf)), left)
		from := len(s.buf)
		s.buf = s.buf[:from+int(n)]
		if _, err := io.ReadFull(r, s.buf[from:]); err != nil {
			return 0, err
		}
		left -= n
		if len(s.buf) == cap(s.buf) {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	if rest := len(s.buf) % erofs.BlockSize; rest > 0 {
		from := len(s.buf)
		s.buf = s.buf[:from+erofs.BlockSize-rest]
		clear(s.buf[from:])
	}
	return ref, nil
}

// Place implements [Sink].
func (s *FileSink) Place(r Ref) (device uint16, block uint64) { return s.device, uint64(r) }

// Close writes what is gathered and returns the block behind the data. It does not close the file.
func (s *FileSink) Close() (uint64, error) {
	if err := s.flush(); err != nil {
		return 0, err
	}
	info, err := s.f.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() < s.at {
		if err := s.f.Truncate(s.at); err != nil {
			return 0, err
		}
	}
	return uint64(s.at / erofs.BlockSize), nil
}

func (s *FileSink) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	if _, err := s.f.WriteAt(s.buf, s.at); err != nil {
		return fmt.Errorf("write file data: %w", err)
	}
	s.at += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}
