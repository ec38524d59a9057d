package touchtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

const pageSize = 4096

// do does one thing.
func (o Op) do() error {
	if o.How == Exec {
		if out, err := exec.Command(o.Path, "true").CombinedOutput(); err != nil {
			return fmt.Errorf("run %s: %w: %s", o.Path, err, out)
		}
		return nil
	}
	f, err := os.Open(o.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if o.Len == 0 {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		o.Len = st.Size() - o.Off
	}
	switch o.How {
	case Read:
		_, err = f.ReadAt(make([]byte, o.Len), o.Off)
	case Splice:
		err = o.splice(f)
	case Send:
		err = o.send(f)
	case Map, Random:
		err = o.touch(f)
	default:
		err = fmt.Errorf("there is no way %q to touch", o.How)
	}
	if err != nil {
		return fmt.Errorf("%s %d bytes at %d of %s: %w", o.How, o.Len, o.Off, o.Path, err)
	}
	return nil
}

// splice moves the range through a pipe, as much at a time as the pipe takes.
func (o Op) splice(f *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	for off, end := o.Off, o.Off+o.Len; off < end; {
		n, err := unix.Splice(int(f.Fd()), &off, int(w.Fd()), nil, int(min(end-off, 8*pageSize)), 0)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return err
		}
	}
	return nil
}

func (o Op) send(f *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for off, end := o.Off, o.Off+o.Len; off < end; {
		n, err := unix.Sendfile(int(null.Fd()), int(f.Fd()), &off, int(end-off))
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// touch reads a byte of each page through a mapping of the whole file.
func (o Op) touch(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if o.How == Random {
		if err := unix.Madvise(m, unix.MADV_RANDOM); err != nil {
			return err
		}
	}
	var sum byte
	for off := o.Off &^ (pageSize - 1); off < o.Off+o.Len; off += pageSize {
		sum += m[off]
	}
	_, err = fmt.Fprint(io.Discard, sum) // the reads must not be optimized away
	return err
}
