package erofs

import (
	"io/fs"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// Stat is what [fs.FileInfo.Sys] returns for a file in an image.
type Stat struct {
	Ino       uint64 // the nid, which is also the inode number that the kernel shows
	Mode      uint32 // as st_mode
	Nlink     uint32
	UID, GID  uint32
	Rdev      uint32 // devices: see SplitRdev
	Size      int64
	Mtime     int64 // seconds since 1970-01-01 UTC
	MtimeNsec uint32
}

// info is a file's fs.FileInfo.
type info struct {
	name string
	stat Stat
}

func newInfo(name string, n *node) *info {
	i := &info{name: path.Base(name), stat: Stat{
		Ino:       n.nid,
		Mode:      uint32(n.Mode),
		Nlink:     n.Nlink,
		UID:       n.UID,
		GID:       n.GID,
		Size:      int64(n.Size),
		Mtime:     n.Mtime,
		MtimeNsec: n.MtimeNsec,
	}}
	switch i.stat.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		i.stat.Rdev = n.U
	}
	return i
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.stat.Size }
func (i *info) Mode() fs.FileMode  { return goMode(i.stat.Mode) }
func (i *info) ModTime() time.Time { return time.Unix(i.stat.Mtime, int64(i.stat.MtimeNsec)) }
func (i *info) IsDir() bool        { return i.Mode().IsDir() }
func (i *info) Sys() any           { s := i.stat; return &s }

// goMode translates an st_mode as package os does.
func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	}
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// dirEntry is an entry of a directory that was read.
type dirEntry struct {
	dir  *node
	name string
	dirent
}

func (e *dirEntry) Name() string { return e.name }
func (e *dirEntry) IsDir() bool  { return e.Type().IsDir() }

// Type is what the entry itself says; where it does not, the inode is read.
func (e *dirEntry) Type() fs.FileMode {
	if t := typeBits(e.dirent.Type); t != 0 {
		return goMode(t)
	}
	i, err := e.Info()
	if err != nil {
		return fs.ModeIrregular
	}
	return i.Mode().Type()
}

// typeBits translates the type byte of a directory entry to the type bits of st_mode, the inverse of fileType; 0 if it is not known.
func typeBits(t uint8) uint32 {
	types := [...]uint32{0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK}
	if int(t) >= len(types) {
		return 0
	}
	return types[t]
}

// Info reads the inode. It does not follow symbolic links.
func (e *dirEntry) Info() (fs.FileInfo, error) {
	n, err := e.dir.child(e.dirent)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: e.name, Err: err}
	}
	return newInfo(e.name, n), nil
}

// TypeName names the file type in a mode for people: "file", "directory", "link" and so on, or "unknown".
func TypeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "unknown"
}
