// Package atomicfile makes files that have their name only once they are complete, whatever happens to the process.
//
// While it is written a file has no name at all where the file system can do that (O_TMPFILE), so that the kernel drops it with its last
// descriptor. Elsewhere it has a name of its own that begins with [Prefix], and is locked: [Sweep] removes such files of which the lock
// is free, that is, whose writer is dead.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Prefix begins the names of files that are being written.
const Prefix = ".pagein-"

// attempts bounds how often a name is looked for.
const attempts = 100

// File is a file that is being written. It is for one goroutine at a time.
type File struct {
	*os.File
	path string
	temp string // its name until Commit, empty if it has none
	done bool
}

// Create starts a file that is to have the given path, and permissions perm less the umask. The directory must exist. One of Commit and Discard
// must be called.
func Create(path string, perm os.FileMode) (*File, error) {
	f, err := create(path, perm, true)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return f, nil
}

func create(path string, perm os.FileMode, anonymous bool) (*File, error) {
	dir := filepath.Dir(path)
	if anonymous {
		f, err := nameless(dir, path, unix.O_TMPFILE, perm)
		if err == nil {
			return &File{File: f, path: path}, nil
		}
		if !isUnknown(err) {
			return nil, err
		}
	}
	for range attempts {
		name := filepath.Join(dir, tempName())
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if lock(f) { // else a sweeper was faster
			return &File{File: f, path: path, temp: name}, nil
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("no free name after %d attempts", attempts)
}

func tempName() string { return fmt.Sprintf("%s%016x", Prefix, rand.Uint64()) }

// lock makes the file ours until it is closed, and reports whether it succeeded and the file still has a name. A file system without locks
// counts as success: there [Sweep] removes nothing.
func lock(f *os.File) bool {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return !errors.Is(err, unix.EWOULDBLOCK)
	}
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0
}

// Commit closes the file and gives it its name, in place of what had it. Nothing is flushed to disk: see [os.File.Sync] and [SyncDir]. After an
// error, nothing is left of the file.
func (f *File) Commit() error {
	if f.done {
		return fmt.Errorf("commit %s: %w", f.path, os.ErrClosed)
	}
	defer f.Discard()
	if err := f.place(); err != nil {
		return fmt.Errorf("put %s in its place: %w", f.path, err)
	}
	f.done, f.temp = true, ""
	return f.Close()
}

func (f *File) place() error {
	if f.temp == "" {
		err := f.link(f.path)
		if err == nil || !errors.Is(err, unix.EEXIST) {
			return err
		}
		// There is no link that replaces. The lock tells sweepers that somebody lives.
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		temp := filepath.Join(filepath.Dir(f.path), tempName())
		if err := f.link(temp); err != nil {
			return err
		}
		f.temp = temp
	}
	return os.Rename(f.temp, f.path)
}

// link gives a file without a name one. The way through /proc needs no privilege.
func (f *File) link(name string) error {
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
}

// Discard closes and removes the file unless it was committed. There is nobody left to tell if that fails.
func (f *File) Discard() {
	if f.done {
		return
	}
	f.done = true
	_ = f.Close()
	if f.temp != "" {
		_ = os.Remove(f.temp)
	}
}

// Sweep removes from a directory what writers left that no longer live. A directory that does not exist has nothing of the kind.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), Prefix) {
			continue
		}
		if err := sweep(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) { // its writer may have finished
			return fmt.Errorf("remove what an interrupted writer left: %w", err)
		}
	}
	return nil
}

func sweep(name string) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // somebody writes it
	}
	return os.Remove(name)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // only read
	return d.Sync()
}
