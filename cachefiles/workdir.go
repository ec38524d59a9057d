package cachefiles

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// inCache calls f, which may use [device.commandIn], with a duplicate of the device, so that one that is let go meanwhile is not confused with another. The
// commands "cull" and "inuse" name a file in the calling thread's working directory: f runs on a thread that shares its working directory with no other, and ends with f.
func (t *Transport) inCache(f func(*device) error) error {
	d, err := t.duplicate()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(d.fd) }()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the runtime ends a thread whose goroutine ends without unlocking it
		done <- withOwnWorkingDirectory(func() error { return f(d) })
	}()
	return <-done
}

func withOwnWorkingDirectory(f func() error) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("give a thread a working directory of its own: %w", err)
	}
	err := f()
	// The first thread of a process is never ended, and would keep the directory's file system busy.
	return errors.Join(err, unix.Chdir("/"))
}

// duplicate returns the device under another descriptor, good for commands alone.
func (t *Transport) duplicate() (*device, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead != nil || t.dev == nil {
		return nil, ErrDead
	}
	fd, err := unix.FcntlInt(uintptr(t.dev.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the descriptor of %s: %w", devicePath, err)
	}
	return &device{fd: fd, wake: -1}, nil
}

// commandIn sends a command that is about a file in dir.
func (d *device) commandIn(dir, text string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("change to directory %s: %w", dir, err)
	}
	return d.command(text)
}
