package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// reserveFiles is how many files the reserve consists of: it is one of inodes too.
	reserveFiles = 8
	// reserveShare is the part of the disk that the reserve may take, one divided by it.
	reserveShare = 64
	// reserveDir is its directory below the store's.
	reserveDir = "reserve"
)

// reserve is space and inodes that are given up when the disk is full, so that readers can go on while what nobody uses is evicted. Its files lie in a directory
// of the store.
type reserve struct {
	dir  string
	held int64 // bytes
}

func (r *reserve) path(i int) string { return filepath.Join(r.dir, strconv.Itoa(i)) }

// reserveSize is how many bytes the reserve shall have on a disk, of which want are asked for.
func reserveSize(want int64, s space) int64 { return min(want, s.total/reserveShare) }

// take makes the reserve, of want bytes if the disk has them to spare: twice as much must be free. It is no error that it has not.
func (r *reserve) take(want int64, s space) error {
	want = reserveSize(want, s) / reserveFiles
	if want < int64(os.Getpagesize()) || r.held > 0 || s.free < 2*want*reserveFiles || s.files > 0 && s.freeFiles < 2*reserveFiles {
		return nil
	}
	if err := os.Mkdir(r.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the reserve: %w", err)
	}
	for i := range reserveFiles {
		if err := allocate(r.path(i), want); err != nil {
			_, undone := r.release()
			if isFull(err) {
				err = nil
			}
			return errors.Join(err, undone)
		}
	}
	r.held = want * reserveFiles
	return nil
}

// adopt takes up the reserve that a predecessor has left, if it is whole and still wanted.
func (r *reserve) adopt(wanted bool) error {
	for i := range reserveFiles {
		var st unix.Stat_t
		if err := unix.Lstat(r.path(i), &st); err != nil || st.Blocks == 0 || !wanted {
			_, err := r.release()
			return err
		}
		r.held += st.Blocks * 512
	}
	return nil
}

func allocate(path string, n int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make the reserve: %w", err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
		return errors.Join(fmt.Errorf("make the reserve: %w", err), f.Close())
	}
	return f.Close()
}

// release gives the reserve up and reports whether there was one.
func (r *reserve) release() (released bool, err error) {
	released, r.held = r.held > 0, 0
	for i := range reserveFiles {
		if e := os.Remove(r.path(i)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("give up the reserve: %w", e))
		}
	}
	return released && err == nil, err
}

// isFull reports whether an error says that there is no space, or no inode, left.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
