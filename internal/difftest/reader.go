package difftest

import (
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// attributes are what a reader shows of one file, directory or the like.
type attributes struct {
	ino      uint64
	nlink    uint32
	mode     uint32 // as st_mode
	uid, gid uint32
	size     int64
	sec      int64
	nsec     uint32
	rdev     uint32
	xattrs   map[string]string
}

// reader is a way to read an image without the kernel. Paths are those of io/fs.
type reader interface {
	attributes(path string) (attributes, error)
	fsys() fs.FS
}

type goErofsReader struct{ f fs.FS }

func (r goErofsReader) fsys() fs.FS { return r.f }

func (r goErofsReader) attributes(path string) (attributes, error) {
	info, err := fs.Lstat(r.f, path)
	if err != nil {
		return attributes{}, err
	}
	st := info.Sys().(*goerofs.Stat)
	a := attributes{
		ino: uint64(st.Ino), nlink: uint32(st.Nlink), mode: unixMode(st.Mode), uid: st.UID, gid: st.GID, size: info.Size(),
		sec: info.ModTime().Unix(), nsec: uint32(info.ModTime().Nanosecond()), rdev: st.Rdev, xattrs: map[string]string{},
	}
	for name, value := range st.Xattrs {
		a.xattrs[strings.TrimSuffix(name, ".")] = value // go-erofs v0.3.1 puts a dot behind the names of ACLs
	}
	return a, nil
}

type erofsReader struct{ f *erofs.FS }

func (r erofsReader) fsys() fs.FS { return r.f }

func (r erofsReader) attributes(path string) (attributes, error) {
	info, err := r.f.Lstat(path)
	if err != nil {
		return attributes{}, err
	}
	st := info.Sys().(*erofs.Stat)
	a := attributes{
		ino: st.Ino, nlink: st.Nlink, mode: st.Mode, uid: st.UID, gid: st.GID, size: st.Size, sec: st.Mtime, nsec: st.MtimeNsec, rdev: st.Rdev,
		xattrs: map[string]string{},
	}
	xattrs, err := r.f.Xattrs(path)
	for _, x := range xattrs {
		a.xattrs[x.Name] = string(x.Value)
	}
	return a, err
}

// unixMode is st_mode of what package os shows.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for _, bit := range []struct {
		is   fs.FileMode
		unix uint32
	}{{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX}} {
		if m&bit.is != 0 {
			mode |= bit.unix
		}
	}
	switch m.Type() {
	case fs.ModeDir:
		return mode | unix.S_IFDIR
	case fs.ModeSymlink:
		return mode | unix.S_IFLNK
	case fs.ModeNamedPipe:
		return mode | unix.S_IFIFO
	case fs.ModeSocket:
		return mode | unix.S_IFSOCK
	case fs.ModeDevice:
		return mode | unix.S_IFBLK
	case fs.ModeDevice | fs.ModeCharDevice:
		return mode | unix.S_IFCHR
	}
	return mode | unix.S_IFREG
}

func readersAt(t testing.TB, paths []string) []io.ReaderAt {
	t.Helper()
	var all []io.ReaderAt
	for _, p := range paths {
		all = append(all, open(t, p))
	}
	return all
}

// sameContent reads two streams to their ends and returns the offset of the first difference, or -1.
func sameContent(a, b io.Reader, bufA, bufB []byte) (int64, error) {
	for off := int64(0); ; {
		n, err := io.ReadFull(a, bufA)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return 0, err
		}
		m, err := io.ReadFull(b, bufB)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return 0, err
		}
		for i := range min(n, m) {
			if bufA[i] != bufB[i] {
				return off + int64(i), nil
			}
		}
		if n != m {
			return off + int64(min(n, m)), nil
		}
		if n < len(bufA) {
			return -1, nil
		}
		off += int64(n)
	}
}

// openIn opens a regular file of the source.
func openIn(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
}
