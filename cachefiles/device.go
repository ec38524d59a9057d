package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
)

const devicePath = "/dev/cachefiles"

const feature = "on-demand cachefiles"

// device is the open /dev/cachefiles. Commands may be sent concurrently; wait and next belong to one goroutine.
//
// It is no os.File, because read(2) returns 0 when no message is pending, which os.File takes for the end of the file.
type device struct {
	fd   int
	wake int // an eventfd that ends wait
	buf  [maxMessage]byte
}

// openDevice opens the device, loading its module if need be.
func openDevice() (*device, error) {
	fd, err := unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
		loadModule()
		fd, err = unix.Open(devicePath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return nil, &kmount.UnsupportedError{Feature: feature, Needs: "CONFIG_CACHEFILES, or its module installed", Reason: "there is no " + devicePath}
	case errors.Is(err, unix.EBUSY):
		return nil, &BusyError{Holders: whoHolds(devicePath, "anon_inode:[cachefiles]")}
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", devicePath, err)
	}
	return newDevice(fd)
}

// loadModule asks for the module. Whether that helped shows when the device is opened again.
func loadModule() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, "modprobe", "-q", "cachefiles").Run()
}

// newDevice takes over fd.
func newDevice(fd int) (*device, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make an eventfd: %w", err), unix.Close(fd))
	}
	return &device{fd: fd, wake: wake}, nil
}

// limits are the percentages of free blocks and files at which the kernel acts, in an order in which 0 <= stop < cull < run < 100 holds after each command. Below "stop" it would take no more
// bytes, which on a large disk is a lot of space that nobody could use: it is left to us to keep a reserve, for all transports alike. "cull" and "run" only set a flag: the kernel
// never removes a file by itself.
func limits() []string {
	return []string{"bstop 0%", "bcull 1%", "brun 2%", "fstop 0%", "fcull 1%", "frun 2%"}
}

// bind makes dir the cache.
func (d *device) bind(dir, tag string) error {
	for _, c := range append(limits(), "dir "+dir, "tag "+tag) {
		if err := d.command(c); err != nil {
			return err
		}
	}
	err := d.command("bind ondemand")
	switch {
	case errors.Is(err, unix.EINVAL):
		return &kmount.UnsupportedError{
			Feature: feature, Needs: "Linux 5.19 with CONFIG_CACHEFILES_ONDEMAND, and a file system with blocks of at most a page",
			Reason: "the kernel refuses the bind mode",
		}
	case errors.Is(err, unix.EOPNOTSUPP):
		return &kmount.UnsupportedError{
			Feature: feature + " in " + dir, Needs: "a directory on a disk file system such as ext4 or xfs",
			Reason: "its file system cannot hold a cache",
		}
	}
	return err
}

// command sends one command.
func (d *device) command(text string) error {
	for {
		n, err := unix.Write(d.fd, []byte(text))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("%s %q: %w", devicePath, text, err)
		case n != len(text):
			return fmt.Errorf("%s %q: the kernel took %d bytes", devicePath, text, n)
		default:
			return nil
		}
	}
}

// copen answers the OPEN with that message ID: a size of the object in bytes, or a negative errno.
func (d *device) copen(id uint32, size int64) error {
	return d.command("copen " + strconv.FormatUint(uint64(id), 10) + "," + strconv.FormatInt(size, 10))
}

// wait returns when a message may be pending or interrupt was called.
func (d *device) wait() error {
	fds := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}, {Fd: int32(d.wake), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err == nil {
			return nil
		} else if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll %s: %w", devicePath, err)
		}
	}
}

// interrupt makes this and every later wait return.
func (d *device) interrupt() {
	// A counter of 1 stays readable, as nobody reads it. The write cannot fail: the counter is far from its limit.
	_, _ = unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// next returns the next message; ok is false when none is pending. A message that cannot be understood is an error, and its descriptor closed. EIO
// means that the cache is dead.
func (d *device) next() (m message, ok bool, err error) {
	// The kernel installs the descriptor of an OPEN without close-on-exec: no child may be started before it is set.
	syscall.ForkLock.RLock()
	n, err := unix.Read(d.fd, d.buf[:])
	if err == nil && n > 0 {
		m, err = parseMessage(d.buf[:n])
		if m.fd >= 0 {
			unix.CloseOnExec(m.fd)
		}
	} else {
		m.fd = -1
	}
	syscall.ForkLock.RUnlock()
	switch {
	case errors.Is(err, unix.EINTR):
		return message{}, false, nil
	case err != nil:
		if m.fd >= 0 {
			err = errors.Join(err, unix.Close(m.fd))
		}
		return message{}, false, fmt.Errorf("read %s: %w", devicePath, err)
	}
	return m, n > 0, nil
}

func (d *device) close() error {
	return errors.Join(unix.Close(d.fd), unix.Close(d.wake))
}

// validate refuses what the device's line protocol cannot carry or the kernel cannot make a directory of.
func (c Config) validate() error {
	switch {
	case !filepath.IsAbs(c.Dir), strings.ContainsAny(c.Dir, "\n\x00"), len(c.Dir) > 4000:
		return fmt.Errorf("cache directory %q: an absolute path of at most 4000 bytes without line breaks is needed", c.Dir)
	case c.Tag == "", strings.ContainsAny(c.Tag, " \t\n\x00/"), len(c.Tag) > 64:
		return fmt.Errorf("cache tag %q: 1 to 64 bytes without blanks and slashes are needed", c.Tag)
	}
	if err := checkKey(c.Domain); err != nil || len(c.Domain) > 200 || strings.Contains(c.Domain, ",") {
		return fmt.Errorf("domain %q: 1 to 200 printable characters without commas and slashes are needed", c.Domain)
	}
	return nil
}
