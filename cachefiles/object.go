package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/quiet"
	"github.com/pagein/pagein/ondemand"
)

// blockSize is the granularity of everything the kernel asks for and we write: the page, and EROFS's block.
const blockSize = 4096

// readComplete is CACHEFILES_IOC_READ_COMPLETE, _IOW(0x98, 1, int) in include/uapi/linux/cachefiles.h. Its argument is the message ID itself.
const readComplete = 0x40049801

// errGone is what operations on an object return that the kernel has closed. It may open another for the same bytes.
var errGone = fmt.Errorf("the kernel has closed the object: %w", ondemand.ErrUnbound)

// errNoFile is what operations on an object return whose file the kernel has not attached yet, which it does a moment after copen, or has taken back, which it does
// a moment before the transport has closed the object.
var errNoFile = fmt.Errorf("the kernel has no file for the object: %w", ondemand.ErrUnbound)

// object is a cache file that the kernel has open: a metadata image or a blob. It is a [ondemand.Target]. Its methods may be called concurrently.
//
// Its descriptor can write at an offset with O_DIRECT, and seek for data and holes; nothing else.
type object struct {
	key  string
	size int64 // bytes

	mu sync.RWMutex // held for reading while fd is in use
	fd int          // -1 once closed

	preparing sync.Mutex
	prepared  bool
	content   content

	denials quiet.Limiter // errors that readers got
}

// content is where an object's bytes come from.
type content interface {
	// prepare makes the object ready once the kernel has attached its file.
	prepare(ctx context.Context, o *object) error
	// fill puts the bytes of a range in place that are not. After an error that wraps [ondemand.ErrUnbound] it is worth another try, if the object has a file.
	fill(ctx context.Context, o *object, off, n int64) error
	// closed is called after the object was closed.
	closed(o *object)
}

// use calls f with the descriptor, which stays open meanwhile.
func (o *object) use(f func(fd int) error) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.fd < 0 {
		return errGone
	}
	err := f(o.fd)
	if errors.Is(err, unix.ENOBUFS) { // it would also say that space is short, had the cache a limit for that
		return errNoFile
	}
	return err
}

// close closes the descriptor after whatever uses it now. An error of close(2) on it says nothing we could act on.
func (o *object) close() {
	o.mu.Lock()
	if o.fd >= 0 {
		_ = unix.Close(o.fd)
		o.fd = -1
	}
	o.mu.Unlock()
	o.content.closed(o)
}

// WriteAt writes whole blocks from aligned memory and returns no error only if the kernel then has them. It does not rely on the count that write(2)
// returns: kernels before 6.16, 6.12.40 and 6.1.147 return the full length even of a short write.
func (o *object) WriteAt(p []byte, off int64) (int, error) {
	if len(p) == 0 || len(p)%blockSize != 0 || off < 0 || off%blockSize != 0 || uintptr(unsafe.Pointer(unsafe.SliceData(p)))%blockSize != 0 {
		return 0, fmt.Errorf("write cache file %s: %d bytes at %d are not whole, aligned blocks", o.key, len(p), off)
	}
	err := o.use(func(fd int) error { return pwriteAll(fd, p, off) })
	if err != nil {
		return 0, fmt.Errorf("write cache file %s: %d bytes at %d: %w", o.key, len(p), off, err)
	}
	return len(p), nil
}

func pwriteAll(fd int, p []byte, off int64) error {
	for done := 0; done < len(p); {
		n, err := unix.Pwrite(fd, p[done:], off+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		// Only whole blocks count: the rest of a block would be written from unaligned memory.
		if n = min(n, len(p)-done) &^ (blockSize - 1); n <= 0 {
			return unix.ENOSPC
		}
		done += n
	}
	ok, err := covered(fd, off, int64(len(p)))
	if err == nil && !ok {
		err = unix.ENOSPC
	}
	return err
}

// covered reports whether the file has data all over the range.
func covered(fd int, off, n int64) (bool, error) {
	hole, err := unix.Seek(fd, off, unix.SEEK_HOLE)
	if errors.Is(err, unix.ENXIO) { // off is at the end of the file or beyond
		return false, nil
	}
	return err == nil && hole >= off+n, err
}

// has reports whether the kernel has data all over the range.
func (o *object) has(off, n int64) (ok bool, err error) {
	err = o.use(func(fd int) error {
		ok, err = covered(fd, off, n)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for holes in cache file %s: %w", o.key, err)
	}
	return ok, nil
}

// extents calls f for every run of data in the file, in order.
func (o *object) extents(f func(off, n int64) error) error {
	for off := int64(0); off < o.size; {
		var data, hole int64
		err := o.use(func(fd int) (err error) {
			if data, err = unix.Seek(fd, off, unix.SEEK_DATA); err == nil {
				hole, err = unix.Seek(fd, data, unix.SEEK_HOLE)
			}
			return err
		})
		if errors.Is(err, unix.ENXIO) {
			return nil // no data from off on
		}
		if err != nil {
			return fmt.Errorf("look for data in cache file %s: %w", o.key, err)
		}
		if err := f(data, min(hole, o.size)-data); err != nil {
			return err
		}
		off = hole
	}
	return nil
}

// attachLimit is how long the kernel may take to attach the file after copen, for which it creates or opens it.
const attachLimit = 30 * time.Second

// prepare waits for the kernel to attach the file, which it does a moment after copen, and gets the content ready. A later call does nothing if an
// earlier one succeeded.
func (o *object) prepare(ctx context.Context) error {
	o.preparing.Lock()
	defer o.preparing.Unlock()
	if o.prepared {
		return nil
	}
	deadline := time.Now().Add(attachLimit)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		_, err := o.has(0, 1)
		if err == nil {
			break
		}
		if !errors.Is(err, errNoFile) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the kernel has not attached a file to object %s in %v", o.key, attachLimit)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := o.content.prepare(ctx, o); err != nil {
		return err
	}
	o.prepared = true
	return nil
}

// maxFills is how often a range is filled that the kernel still does not have. Another time is needed when a fill was under way, into an earlier object of
// the same key, while this one was opened.
const maxFills = 3

// present reports whether the kernel has all of a range that it asked for, which has a byte in the object. It waits for nothing but the kernel and the disk.
func (o *object) present(ctx context.Context, off, n int64) (bool, error) {
	if off >= o.size {
		return false, fmt.Errorf("the kernel asks for %d bytes at %d of %s, which has %d", n, off, o.key, o.size)
	}
	if err := o.prepare(ctx); err != nil {
		return false, err
	}
	return o.has(off, min(n, o.size-off))
}

// provide puts a range in place that was not present.
func (o *object) provide(ctx context.Context, off, n int64) error {
	n = min(n, o.size-off)
	var last error
	for range maxFills {
		last = o.content.fill(ctx, o, off, n)
		if last != nil && !errors.Is(last, ondemand.ErrUnbound) {
			return last
		}
		if ok, err := o.has(off, n); ok || err != nil {
			return err
		}
	}
	why := "what was written is not there"
	if last != nil {
		why = last.Error() // not wrapped: the file is there, whatever the last try was told
	}
	return fmt.Errorf("cache file %s has a hole at %d+%d that cannot be filled: %s", o.key, off, n, why)
}

// complete tells the kernel to look at the range of a READ again.
func (o *object) complete(id uint32) error {
	return o.use(func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), readComplete, uintptr(id)); errno != 0 {
			return errno
		}
		return nil
	})
}
