package mkfs

import (
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

const (
	// fileSinkBuffer is how much data of streams is gathered for one write, in bytes.
	fileSinkBuffer = 1 << 20
	// aheadBytes is how much space is asked for at a time. Writing to space that the file has already takes about half as long on ext4.
	aheadBytes = 256 << 20
)

// FileSink stores data uncompressed in consecutive blocks of a file: an image itself, or one extra device of it. Its Refs are block
// numbers.
type FileSink struct {
	device uint16
	f      *os.File
	fd     int // of f
	buf    []byte
	at     int64 // where buf belongs in the file
	ahead  int64 // up to which the file has space
}

// NewFileSink returns a sink that writes to f from the given block on. Its data lies on the given device, 0 being the image itself. The file must have
// nothing from that block on. It may have space behind its end until its length is set.
func NewFileSink(f *os.File, device uint16, block uint64) *FileSink {
	return &FileSink{device: device, f: f, fd: int(f.Fd()), at: int64(block) * erofs.BlockSize}
}

// deferrer is a reader whose data can be written to the sink's file by others: a directory is read and written by several workers, while the order of
// files in the image is settled one file at a time.
type deferrer interface {
	// putOff takes note that the next size bytes are to be written at off, and goes on behind them.
	putOff(off, size int64)
}

// Append implements [Sink].
func (s *FileSink) Append(r io.Reader, size int64) (Ref, error) {
	ref := Ref((s.at + int64(len(s.buf))) / erofs.BlockSize)
	if src, ok := r.(deferrer); ok {
		if err := s.flush(); err != nil {
			return 0, err
		}
		src.putOff(s.at, size)
		// The rest of the last block is a hole, unless the file ends here: Close sets its length.
		s.at += (size + erofs.BlockSize - 1) &^ (erofs.BlockSize - 1)
		s.prepare()
		return ref, nil
	}
	if s.buf == nil {
		s.buf = make([]byte, 0, fileSinkBuffer)
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
	if err := s.f.Truncate(s.at); err != nil {
		return 0, err
	}
	return uint64(s.at / erofs.BlockSize), nil
}

func (s *FileSink) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	if err := s.writeAt(s.buf, s.at); err != nil {
		return err
	}
	s.at += int64(len(s.buf))
	s.buf = s.buf[:0]
	s.prepare()
	return nil
}

// prepare asks for the space that will be needed soon. It is only a hint: a file system that cannot do it goes without, and on one that is nearly full, what
// was got is given back, as temporary files may need it.
func (s *FileSink) prepare() {
	if s.at <= s.ahead {
		return
	}
	end := s.at + aheadBytes
	if err := retry(func() error { return unix.Fallocate(s.fd, 0, s.ahead, end-s.ahead) }); err != nil {
		_ = s.f.Truncate(s.at) // nothing has a place behind that
		end = math.MaxInt64
	}
	s.ahead = end
}

// writeAt writes data that has its place. Unlike other methods it may be called concurrently.
func (s *FileSink) writeAt(data []byte, off int64) error {
	if _, err := s.f.WriteAt(data, off); err != nil {
		return fmt.Errorf("write file data: %w", err)
	}
	return nil
}

// memoryWrite is data in memory that is to be written at off.
type memoryWrite struct {
	off  int64
	data []byte
}

// maxVector is how many pieces of memory one system call takes (UIO_MAXIOV of Linux).
const maxVector = 1024

// write writes data that has its place, ascending, each piece from the beginning of a block, and zeros up to the end of the last block of each. It may be
// called concurrently.
func (s *FileSink) write(writes []memoryWrite) error {
	var zeros [erofs.BlockSize]byte
	vector := make([][]byte, 0, min(2*len(writes), maxVector))
	for len(writes) > 0 {
		off := writes[0].off
		end := off
		vector = vector[:0]
		for len(writes) > 0 && writes[0].off == end && len(vector) < maxVector-1 {
			data := writes[0].data
			vector = append(vector, data)
			end += int64(len(data))
			if rest := end % erofs.BlockSize; rest > 0 {
				vector = append(vector, zeros[rest:])
				end += erofs.BlockSize - rest
			}
			writes = writes[1:]
		}
		if err := s.writeVector(vector, off); err != nil {
			return fmt.Errorf("write file data: %w", err)
		}
	}
	return nil
}

func (s *FileSink) writeVector(vector [][]byte, off int64) error {
	for len(vector) > 0 {
		n := 0
		if err := retry(func() (e error) { n, e = unix.Pwritev(s.fd, vector, off); return e }); err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		off += int64(n)
		for len(vector) > 0 && n >= len(vector[0]) {
			n -= len(vector[0])
			vector = vector[1:]
		}
		if n > 0 {
			vector[0] = vector[0][n:]
		}
	}
	return nil
}
