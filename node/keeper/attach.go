package keeper

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// attach asks the keeper for a lifeline and for all that it holds.
func attach(opt Options) (lifeline int, fds map[string]int, err error) {
	s, err := connect(opt.Socket)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return -1, nil, ErrAbsent
	}
	if err != nil {
		return -1, nil, err
	}
	defer unix.Close(s)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("make lifeline: %w", err)
	}
	err = send(s, attachMessage(), pair[1:], 0)
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return -1, nil, ErrAbsent
		}
		return -1, nil, fmt.Errorf("send: %w", err)
	}
	fds, err = takeBack(pair[0], opt.Floor)
	if err == nil {
		lifeline, err = raise(pair[0], opt.Floor)
		pair[0] = lifeline
	}
	if err == nil {
		err = unix.SetNonblock(lifeline, true)
	}
	if err != nil {
		unix.Close(pair[0])
		closeAll(fds)
		return -1, nil, err
	}
	return lifeline, fds, nil
}

// takeBack receives packets up to the end marker. All descriptors received are at floor or above.
func takeBack(s, floor int) (map[string]int, error) {
	fds := map[string]int{}
	buf := make([]byte, maxPacket)
	for {
		if err := readable(s, ioTimeout); err != nil {
			return fds, fmt.Errorf("wait for the keeper: %w", err)
		}
		r, err := receive(s, buf, 0)
		if errors.Is(err, unix.ECONNRESET) || err == nil && len(r.data) == 0 {
			return fds, ErrAbsent // it ended, or refused and says why in its log
		}
		if err != nil {
			return fds, fmt.Errorf("receive: %w", err)
		}
		names, err := parsePacket(r.data, len(r.fds))
		if err != nil {
			r.close()
			return fds, err
		}
		if len(names) == 0 {
			return fds, nil
		}
		for i, fd := range r.fds {
			if err := adopt(fds, names[i], fd, floor); err != nil {
				for _, rest := range r.fds[i+1:] {
					unix.Close(rest)
				}
				return fds, err
			}
		}
	}
}

// adopt enters fd, moved to floor or above, under name, and closes what was there.
func adopt(fds map[string]int, name string, fd, floor int) error {
	high, err := raise(fd, floor)
	if err != nil {
		unix.Close(fd)
		return err
	}
	if old, twice := fds[name]; twice {
		unix.Close(old)
	}
	fds[name] = high
	return nil
}

func closeAll(fds map[string]int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
