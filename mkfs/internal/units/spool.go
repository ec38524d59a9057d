package units

import (
	"fmt"
	"os"
	"sync/atomic"

	"github.com/pagein/pagein/internal/atomicfile"
)

// spool is a temporary file to which goroutines append. It has no name, so it goes away with its descriptor, however the process ends.
type spool struct {
	file *os.File
	end  atomic.Int64
}

func (s *spool) open(dir string) (err error) {
	s.file, err = atomicfile.Temp(dir)
	return err
}

// append stores p and returns where.
func (s *spool) append(p []byte) (off int64, err error) {
	off = s.end.Add(int64(len(p))) - int64(len(p))
	if _, err := s.file.WriteAt(p, off); err != nil {
		return 0, fmt.Errorf("write temporary file: %w", err)
	}
	return off, nil
}

func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if err != nil {
		err = fmt.Errorf("read temporary file: %w", err)
	}
	return n, err
}

func (s *spool) close() error { return s.file.Close() }
