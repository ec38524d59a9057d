package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tick is how often a keeper without a daemon looks whether it is still needed.
	tick = time.Second
	// firstGrace is how long a new keeper waits for its first daemon.
	firstGrace = 10 * time.Second
	// maxGrievances bounds how many senders' refusals are remembered until their barrier.
	maxGrievances = 64
)

// ErrTaken means that another keeper serves the socket.
var ErrTaken = errors.New("another keeper serves this socket")

// Config says how a keeper behaves.
type Config struct {
	Socket string // path of its socket; a file with ".lock" appended stands beside it
	Stay   bool   // not to end when nothing is needed, only at Stop: for a service manager that would restart it
	Log    *slog.Logger
	// Each value from Stop asks the keeper to end; it obeys when nothing that it holds is needed, and otherwise says so in the log.
	Stop <-chan os.Signal
	// Ready, if not nil, is called once the socket takes messages.
	Ready func()
}

// server is a keeper at work. One goroutine runs it; there is nothing to lock.
type server struct {
	Config
	sock       int
	lock       *os.File
	table      *table
	links      []*link
	grievances map[int32]string // by pid: why something was refused since the sender's last barrier
	buf        []byte
	born       time.Time
	everLinked bool
}

// Serve keeps descriptors until nothing needs them (see the package comment), then removes the socket and returns nil. ctx ends it in any
// case, for tests. It returns ErrTaken when the socket has a keeper.
func Serve(ctx context.Context, cfg Config) error {
	s := &server{Config: cfg, table: newTable(), grievances: map[int32]string{}, buf: make([]byte, maxDatagram+1), born: time.Now()}
	if err := s.listen(); err != nil {
		return fmt.Errorf("keep descriptors at %s: %w", cfg.Socket, err)
	}
	defer s.close()
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("keep descriptors at %s: eventfd: %w", cfg.Socket, err)
	}
	stopping := make(chan struct{})
	woken := make(chan struct{})
	go func() {
		defer close(woken)
		s.relayWakeups(ctx, wake, stopping)
	}()
	defer func() {
		close(stopping)
		<-woken
		unix.Close(wake)
	}()
	if cfg.Ready != nil {
		cfg.Ready()
	}
	return s.run(ctx, wake)
}

// relayWakeups makes Stop and the end of ctx visible to poll.
func (s *server) relayWakeups(ctx context.Context, wake int, stopping <-chan struct{}) {
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	for {
		select {
		case <-stopping:
			return
		case <-ctx.Done():
			_, _ = unix.Write(wake, one)
			return
		case <-s.Stop:
			_, _ = unix.Write(wake, one)
		}
	}
}

// listen takes the lock, so that two keepers cannot unlink each other's socket, and binds the socket.
func (s *server) listen() (err error) {
	addr, err := address(s.Socket)
	if err != nil {
		return err
	}
	if s.lock, err = os.OpenFile(s.Socket+".lock", os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return ErrTaken
		}
		return fmt.Errorf("lock %s: %w", s.lock.Name(), err)
	}
	if s.sock, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(s.sock)
		}
	}()
	// Before bind: a message sent between the two would carry no credentials.
	if err := unix.SetsockoptInt(s.sock, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return fmt.Errorf("ask for credentials: %w", err)
	}
	if err := removeSocket(s.Socket); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	// The mode of the inode before bind(2) applies the umask: nobody else can connect in between.
	if err := unix.Fchmod(s.sock, 0o600); err != nil {
		return fmt.Errorf("restrict socket: %w", err)
	}
	if err := unix.Bind(s.sock, addr); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

func (s *server) close() {
	for _, l := range s.links {
		unix.Close(l.fd)
	}
	os.Remove(s.Socket)
	unix.Close(s.sock)
	s.lock.Close() // last: whoever gets the lock finds the socket gone
}

func (s *server) run(ctx context.Context, wake int) error {
	for {
		ready, err := s.wait(wake)
		if err != nil {
			return fmt.Errorf("keep descriptors at %s: %w", s.Socket, err)
		}
		drained := ready[0].Revents == 0 || s.takeMessages()
		s.serveLinks(ready[2:])
		if ready[1].Revents != 0 {
			_, _ = unix.Read(wake, make([]byte, 8))
			if ctx.Err() != nil {
				return nil
			}
			if drained && !s.table.needed() {
				return nil
			}
			s.Log.Warn("told to stop, but mounts need what is held; unmount them first", "held", len(s.table.held))
		}
		if drained && s.done() {
			return nil
		}
	}
}

// done says whether the keeper may end by itself.
func (s *server) done() bool {
	if s.Stay || len(s.links) > 0 || !s.everLinked && time.Since(s.born) < firstGrace {
		return false
	}
	return !s.table.needed()
}

// wait polls the socket, the wake-up descriptor and the links, in this order.
func (s *server) wait(wake int) ([]unix.PollFd, error) {
	fds := []unix.PollFd{{Fd: int32(s.sock), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for _, l := range s.links {
		events := int16(unix.POLLIN)
		if !l.told {
			events |= unix.POLLOUT
		}
		fds = append(fds, unix.PollFd{Fd: int32(l.fd), Events: events})
	}
	timeout := -1
	if len(s.links) == 0 && !s.Stay {
		timeout = int(tick / time.Millisecond)
	}
	if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("poll: %w", err)
	}
	return fds, nil
}

// serveLinks hands descriptors back as the links take them and forgets links whose daemon is gone. Links have no other traffic.
func (s *server) serveLinks(ready []unix.PollFd) {
	byFd := map[int32]int16{}
	for _, r := range ready {
		byFd[r.Fd] = r.Revents
	}
	var living []*link
	for _, l := range s.links {
		if byFd[int32(l.fd)]&(unix.POLLIN|unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 || !l.pump(s.table) {
			unix.Close(l.fd)
			continue
		}
		living = append(living, l)
	}
	s.links = living
}
