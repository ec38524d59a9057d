package unpack

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// at is a file that was made: a descriptor of it, or where fd is 0, a name in a directory.
type at struct {
	fd   int
	dir  int
	name string
	path string // for messages
}

// attributes sets what a file is to be like. The order matters: a change of the owner takes away set-ID bits and capabilities, and times come last.
func (x *extractor) attributes(f at, h erofs.Handle, st erofs.Stat) error {
	mode := st.Mode & 0o7777
	if err := f.chown(int(st.UID), int(st.GID)); err != nil {
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) { // EINVAL: not mapped in this user namespace
			return fmt.Errorf("set owner: %w", err)
		}
		x.notes.lose("owners", f.path, err)
		if mode&(unix.S_ISUID|unix.S_ISGID) != 0 && fileType(st) != unix.S_IFDIR {
			x.notes.lose("set-user-ID and set-group-ID bits of files with another owner", f.path, err)
			mode &^= unix.S_ISUID | unix.S_ISGID
		}
	}
	if fileType(st) != unix.S_IFLNK {
		if err := f.chmod(mode); err != nil {
			return fmt.Errorf("set permissions: %w", err)
		}
	}
	if err := x.xattrs(f, h); err != nil {
		return err
	}
	if err := f.setTime(unix.Timespec{Sec: st.Mtime, Nsec: int64(st.MtimeNsec)}); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// xattrs sets the extended attributes. What the file system or the lack of privileges forbids is noted.
func (x *extractor) xattrs(f at, h erofs.Handle) error {
	list, err := h.Xattrs()
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := f.setXattr(a); err != nil {
			namespace, _, _ := strings.Cut(a.Name, ".")
			x.notes.lose(fmt.Sprintf("extended attributes of the namespace %q", namespace), f.path, fmt.Errorf("set %q: %w", a.Name, err))
		}
	}
	return nil
}

func (f at) chown(uid, gid int) error {
	if f.fd != 0 {
		return unix.Fchown(f.fd, uid, gid)
	}
	return unix.Fchownat(f.dir, f.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// chmod goes through a descriptor in any case: fchmodat follows symbolic links on kernels before 6.6.
func (f at) chmod(mode uint32) error {
	if f.fd != 0 {
		return unix.Fchmod(f.fd, mode)
	}
	fd, err := unix.Openat(f.dir, f.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

func (f at) setXattr(a erofs.Xattr) error {
	if f.fd != 0 {
		return unix.Fsetxattr(f.fd, a.Name, a.Value, 0)
	}
	return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", f.dir, f.name), a.Name, a.Value, 0)
}

func (f at) setTime(t unix.Timespec) error {
	times := []unix.Timespec{t, t}
	if f.fd != 0 {
		return unix.UtimesNanoAt(f.fd, "", times, unix.AT_EMPTY_PATH)
	}
	return unix.UtimesNanoAt(f.dir, f.name, times, unix.AT_SYMLINK_NOFOLLOW)
}
