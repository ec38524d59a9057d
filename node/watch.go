package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/node/keeper"
	"github.com/pagein/pagein/ondemand"
)

// watch learns when the kernel drops a superblock: when its last mount, in whatever namespace, and its last open file are gone. It is an inotify
// instance with one watch on the root of each; the kernel removes the watch with the superblock. The keeper holds it too, to know when it may end.
type watch struct {
	fd   int
	wake int // eventfd

}

// newWatch takes up the predecessor's inotify instance, or makes one, which hold has held.
func newWatch(adopted map[string]int) (*watch, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch mounts: %w", err)
	}
	w := &watch{wake: wake}
	if fd, ok := adopted[keeper.MountsName]; ok {
		w.fd = fd
		return w, nil
	}
	if w.fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return nil, errors.Join(fmt.Errorf("watch mounts: %w", err), unix.Close(wake))
	}
	return w, nil
}

// hold has a new instance held. That it is held says that what an earlier keeper lost has been dealt with and recorded, so it comes after that.
func (w *watch) hold(holder ondemand.Holder) error {
	if err := holder.Hold(keeper.MountsName, w.fd); err != nil {
		return fmt.Errorf("have the watch on mounts held: %w", err)
	}
	return nil
}

func (w *watch) close() error { return errors.Join(unix.Close(w.fd), unix.Close(w.wake)) }

// add watches the superblock whose root is at path.
func (w *watch) add(path string) (int32, error) {
	// The event asked for cannot happen to a read-only root; those that matter are always sent.
	wd, err := unix.InotifyAddWatch(w.fd, path, unix.IN_DELETE_SELF|unix.IN_ONLYDIR)
	if err != nil {
		return 0, fmt.Errorf("watch the mount at %s: %w", path, err)
	}
	return int32(wd), nil
}

// alive returns the watches whose superblocks live.
func (w *watch) alive() (map[int32]bool, error) {
	f, err := os.Open(fmt.Sprintf("/proc/self/fdinfo/%d", w.fd))
	if err != nil {
		return nil, fmt.Errorf("list watched mounts: %w", err)
	}
	defer f.Close()
	alive := make(map[int32]bool)
	s := bufio.NewScanner(f)
	for s.Scan() {
		var wd int32
		if rest, ok := strings.CutPrefix(s.Text(), "inotify wd:"); ok {
			if _, err := fmt.Sscanf(rest, "%x", &wd); err != nil { // the kernel prints it in hex
				return nil, fmt.Errorf("list watched mounts: %q: %w", s.Text(), err)
			}
			alive[wd] = true
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("list watched mounts: %w", err)
	}
	return alive, nil
}

// lookAgain is how long to rely on being told of new mounts, in milliseconds: what is missed would be a mount that the keeper does not know of.
const lookAgain = 500

// run calls gone for each watch whose superblock has been dropped, and changed after mounts came or went in this mount namespace, until stop is called.
func (w *watch) run(gone func(wd int32), changed func()) error {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("watch mounts: %w", err)
	}
	defer table.Close()
	for {
		p := []unix.PollFd{
			{Fd: int32(w.fd), Events: unix.POLLIN}, {Fd: int32(w.wake), Events: unix.POLLIN}, {Fd: int32(table.Fd()), Events: unix.POLLPRI},
		}
		n, err := unix.Poll(p, lookAgain)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for unmounts: %w", err)
		}
		if p[1].Revents != 0 {
			return nil
		}
		if n == 0 || p[2].Revents != 0 {
			changed()
		}
		if err := w.read(gone); err != nil {
			return err
		}
	}
}

// read calls gone for what the inotify instance has to say.
func (w *watch) read(gone func(wd int32)) error {
	buf := make([]byte, 4096)
	n, err := unix.Read(w.fd, buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read unmounts: %w", err)
	}
	// struct inotify_event: s32 wd, u32 mask, u32 cookie, u32 len, name
	for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		if mask&unix.IN_IGNORED != 0 { // the last event of a watch
			gone(wd)
		}
		b = b[min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])), len(b)):]
	}
	return nil
}

// stop ends run.
func (w *watch) stop() {
	// The write cannot fail: the counter is far from full.
	_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}
