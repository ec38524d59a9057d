package keeper

import (
	"errors"
	"fmt"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// takeMessages does what the queued notifications ask for, a bounded number at a time so that the links get their turn. It says whether
// there were no more.
func (s *server) takeMessages() bool {
	for range 64 {
		r, err := receive(s.sock, s.buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if err != nil {
			s.refuse(r.cred, err)
			continue
		}
		if err := s.handle(&r); err != nil {
			s.refuse(r.cred, err)
		}
		r.close() // what handle has not taken
	}
	return false
}

// refuse logs why a notification was not obeyed and remembers it for the sender's next barrier.
func (s *server) refuse(cred *unix.Ucred, why error) {
	if cred == nil {
		s.Log.Warn("refused a message", "reason", why)
		return
	}
	s.Log.Warn("refused a message", "pid", cred.Pid, "uid", cred.Uid, "reason", why)
	if _, known := s.grievances[cred.Pid]; s.trusts(cred) && (known || len(s.grievances) < maxGrievances) {
		s.grievances[cred.Pid] = why.Error()
	}
}

// trusts says whether the sender may give and take descriptors: root, or the user the keeper runs as.
func (s *server) trusts(cred *unix.Ucred) bool {
	return cred.Uid == 0 || cred.Uid == uint32(os.Geteuid())
}

// handle does one notification. It takes the descriptors that it keeps out of r.
func (s *server) handle(r *received) error {
	if r.cred == nil {
		return errors.New("sender's credentials are unknown")
	}
	if !s.trusts(r.cred) {
		return fmt.Errorf("uid %d may not use this keeper", r.cred.Uid)
	}
	m, err := parseMessage(r.data)
	if err != nil {
		return err
	}
	want := 1
	if m.verb == verbRemove || m.verb == verbNone {
		want = 0
	}
	if len(r.fds) != want {
		return fmt.Errorf("message comes with %d descriptors instead of %d", len(r.fds), want)
	}
	switch m.verb {
	case verbStore:
		fd := r.fds[0]
		r.fds = nil
		return s.table.put(m.name, fd)
	case verbRemove:
		s.table.remove(m.name)
	case verbBarrier:
		s.answerBarrier(r.cred.Pid, r.fds[0])
	case verbAttach:
		return s.attach(r)
	case verbNone:
	}
	return nil
}

// answerBarrier tells the sender how its messages since the last barrier went. The descriptor comes from outside: it must not block the
// keeper, so only what a pipe takes at once is written, and only if it is a pipe.
func (s *server) answerBarrier(pid int32, fd int) {
	reply := "ok"
	if why, ok := s.grievances[pid]; ok {
		reply = why
		delete(s.grievances, pid)
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO || unix.SetNonblock(fd, true) != nil {
		return
	}
	_, _ = unix.Write(fd, []byte(reply))
}

// attach makes the socket that came with the message a link and starts to hand back what is held, in the order of names.
func (s *server) attach(r *received) error {
	if len(s.links) >= maxLinks {
		return fmt.Errorf("%d daemons are attached already", len(s.links))
	}
	kind, err := unix.GetsockoptInt(r.fds[0], unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return errors.New("lifeline is no SOCK_SEQPACKET socket")
	}
	l := &link{fd: r.fds[0]}
	r.fds = nil
	for name := range s.table.held {
		l.pending = append(l.pending, name)
	}
	sort.Strings(l.pending)
	s.links = append(s.links, l)
	s.everLinked = true
	return nil
}
