package mkfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// spoolMemory is how much inline data is kept in memory before a temporary file takes it.
const spoolMemory = 8 << 20

// spool gathers inline data. It is written first, by any number of goroutines, and read afterwards.
type spool struct {
	dir  string
	mu   sync.Mutex
	buf  []byte // what is not yet in the file
	file *os.File
	off  int64 // length of the file
}

// append stores data and returns its offset.
func (s *spool) append(data []byte) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf)+len(data) > spoolMemory {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	off := s.off + int64(len(s.buf))
	s.buf = append(s.buf, data...)
	return off, nil
}

func (s *spool) flush() (err error) {
	if s.file == nil {
		if s.file, err = tempFile(s.dir); err != nil {
			return err
		}
	}
	if _, err := s.file.WriteAt(s.buf, s.off); err != nil {
		return fmt.Errorf("write temporary file: %w", err)
	}
	s.off += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// ReadAt implements [io.ReaderAt].
func (s *spool) ReadAt(p []byte, off int64) (n int, err error) {
	if off < s.off {
		n, err = s.file.ReadAt(p[:min(int64(len(p)), s.off-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, fmt.Errorf("read temporary file: %w", err)
		}
	}
	if at := off + int64(n) - s.off; n < len(p) && at >= 0 && at < int64(len(s.buf)) {
		n += copy(p[n:], s.buf[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *spool) close() error {
	s.buf = nil
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
