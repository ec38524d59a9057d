package keeper

import (
	"errors"

	"golang.org/x/sys/unix"
)

// link is an attached daemon.
type link struct {
	fd      int
	pending []string // names still to be handed back
	told    bool     // the end marker has been sent
}

// pump sends what the link takes without waiting and says whether the link lives.
func (l *link) pump(t *table) bool {
	for !l.told {
		names := make([]string, 0, fdsPerPacket)
		fds := make([]int, 0, fdsPerPacket)
		rest := l.pending
		for len(rest) > 0 && len(names) < fdsPerPacket {
			if fd, ok := t.held[rest[0]]; ok { // else released meanwhile
				names, fds = append(names, rest[0]), append(fds, fd)
			}
			rest = rest[1:]
		}
		err := send(l.fd, packetMessage(names), fds, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if err != nil {
			return false
		}
		l.pending, l.told = rest, len(names) == 0
	}
	return true
}
