package keeper

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// address turns a path, or "@name" for Linux's abstract namespace, into a socket address.
func address(path string) (*unix.SockaddrUnix, error) {
	// sun_path has 108 bytes, one of them for the final NUL.
	if path == "" || len(path) > 107 {
		return nil, fmt.Errorf("socket path %q has %d bytes, not 1 to 107", path, len(path))
	}
	return &unix.SockaddrUnix{Name: path}, nil
}

// removeSocket removes a socket, if there is one, and nothing else.
func removeSocket(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is no socket", path)
	}
	return os.Remove(path)
}

// connect returns a datagram socket connected to path whose sends give up after ioTimeout.
func connect(path string) (int, error) {
	addr, err := address(path)
	if err != nil {
		return -1, err
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	limit := unix.NsecToTimeval(int64(ioTimeout))
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		unix.Close(s)
		return -1, fmt.Errorf("set send timeout: %w", err)
	}
	if err := unix.Connect(s, addr); err != nil {
		unix.Close(s)
		return -1, err
	}
	return s, nil
}

// send sends one message with descriptors.
func send(s int, data []byte, fds []int, flags int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return ignoringInterrupts(func() error { return unix.Sendmsg(s, data, rights, nil, flags|unix.MSG_NOSIGNAL) })
}

// received is one message. Whoever gets it owns the descriptors.
type received struct {
	data []byte
	fds  []int
	cred *unix.Ucred // of the sender, if the socket has SO_PASSCRED
}

func (r *received) close() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

var errCut = errors.New("message too long or with too many descriptors")

// receive takes one message into buf. All descriptors get close-on-exec before any other thread can see them. A message that does not fit
// is errCut, and its descriptors are closed; an empty message without descriptors is the end of a connection or an empty datagram.
func receive(s int, buf []byte, flags int) (received, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxRights)+unix.CmsgSpace(unix.SizeofUcred))
	var n, oobn, got int
	err := ignoringInterrupts(func() (err error) {
		n, oobn, got, _, err = unix.Recvmsg(s, buf, oob, flags|unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return received{}, err
	}
	r := received{data: buf[:n]}
	control, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return received{}, fmt.Errorf("parse control message: %w", err)
	}
	for _, c := range control {
		if fds, err := unix.ParseUnixRights(&c); err == nil {
			r.fds = append(r.fds, fds...)
		} else if cred, err := unix.ParseUnixCredentials(&c); err == nil {
			r.cred = cred
		}
	}
	if got&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		r.close()
		return received{cred: r.cred}, errCut
	}
	return r, nil
}

// readable waits until fd can be read or has hung up.
func readable(fd int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
	}
}

func ignoringInterrupts(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// raise moves a descriptor to a number of at least floor, closing the old number. On an error the descriptor stays as it is.
func raise(fd, floor int) (int, error) {
	if fd >= floor {
		return fd, nil
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, floor)
	if err != nil {
		return fd, fmt.Errorf("move descriptor %d to %d or above: %w", fd, floor, err)
	}
	unix.Close(fd)
	return high, nil
}
