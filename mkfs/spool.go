package mkfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/pagein/pagein/internal/atomicfile"
)

const (
	spoolBlock  = 1 << 20  // bytes that are allocated at a time: a slice that grows would be copied again and again
	spoolMemory = 16 << 20 // how much inline data is kept in memory before a temporary file takes it
)

// spool gathers inline data. It is written first, by any number of goroutines (layers are read at the same time), and read afterwards.
type spool struct {
	dir    string
	mu     sync.Mutex // held while data is written
	blocks [][]byte   // of spoolBlock bytes
	held   int64      // bytes in blocks, which are not in the file
	file   *os.File
	off    int64 // length of the file
}

// append stores data and returns its offset.
func (s *spool) append(data []byte) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held+int64(len(data)) > spoolMemory {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	off := s.off + s.held
	for len(data) > 0 {
		if s.held == int64(len(s.blocks))*spoolBlock {
			s.blocks = append(s.blocks, make([]byte, spoolBlock))
		}
		n := copy(s.blocks[s.held/spoolBlock][s.held%spoolBlock:], data)
		s.held += int64(n)
		data = data[n:]
	}
	return off, nil
}

func (s *spool) flush() (err error) {
	if s.file == nil {
		if s.file, err = atomicfile.Temp(s.dir); err != nil {
			return err
		}
	}
	for _, block := range s.blocks {
		n := min(s.held, spoolBlock)
		if _, err := s.file.WriteAt(block[:n], s.off); err != nil {
			return fmt.Errorf("write temporary file: %w", err)
		}
		s.off, s.held = s.off+n, s.held-n
	}
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
	for at := off + int64(n) - s.off; n < len(p) && at >= 0 && at < s.held; at = off + int64(n) - s.off {
		block := s.blocks[at/spoolBlock][at%spoolBlock:]
		n += copy(p[n:], block[:min(int64(len(block)), s.held-at)])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (s *spool) close() error {
	s.blocks, s.held = nil, 0
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
