package erofs

import (
	"errors"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// base is what all open files have in common.
type base struct {
	name string
	node *node
}

func (f *base) Stat() (fs.FileInfo, error) { return newInfo(f.name, f.node), nil }
func (f *base) Close() error               { return nil }

func (f *base) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// specialFile is an open device, pipe or socket: there is nothing in it to read.
type specialFile struct{ base }

func (f *specialFile) Read([]byte) (int, error) { return 0, f.fail("read", unix.ENXIO) }

// regularFile is an open regular file. Read and Seek share a position and are for one goroutine at a time.
type regularFile struct {
	base
	pos int64
}

func (f *regularFile) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := f.ReadAt(b, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *regularFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.node.readAt(b, off)
	if err != nil && err != io.EOF {
		err = f.fail("read", err)
	}
	return n, err
}

var errSeek = errors.New("seek to before the beginning, or with an unknown whence")

func (f *regularFile) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += f.pos
	case io.SeekEnd:
		off += int64(f.node.Size)
	default:
		return 0, f.fail("seek", errSeek)
	}
	if off < 0 {
		return 0, f.fail("seek", errSeek)
	}
	f.pos = off
	return off, nil
}

// dirFile is an open directory.
type dirFile struct {
	base
	block int64 // the next block to read
	left  []fs.DirEntry
	last  string // the last name that was read: the next one must be greater
}

func (f *dirFile) Read([]byte) (int, error) { return 0, f.fail("read", unix.EISDIR) }

// ReadDir has the contract of [fs.ReadDirFile]. "." and ".." are left out.
func (f *dirFile) ReadDir(count int) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	for count <= 0 || len(list) < count {
		if len(f.left) == 0 {
			more, err := f.fill()
			if err != nil {
				return list, f.fail("readdir", err)
			}
			if !more {
				break
			}
			continue
		}
		n := len(f.left)
		if count > 0 {
			n = min(n, count-len(list))
		}
		list = append(list, f.left[:n]...)
		f.left = f.left[n:]
	}
	if count > 0 && len(list) == 0 {
		return nil, io.EOF
	}
	return list, nil
}

// fill reads the next block, and says whether there was one.
func (f *dirFile) fill() (bool, error) {
	if f.block >= f.node.dirBlocks() {
		return false, nil
	}
	d, err := f.node.dirBlock(f.block)
	if err != nil {
		return false, err
	}
	f.block++
	f.left = make([]fs.DirEntry, 0, d.count)
	for i := range d.count {
		name := string(d.name(i))
		if name <= f.last {
			return false, f.node.errorf("directory block %d: %w", f.block-1, errDirOrder)
		}
		f.last = name
		if name != "." && name != ".." {
			f.left = append(f.left, &dirEntry{dir: f.node, name: name, dirent: d.entry(i)})
		}
	}
	return true, nil
}
