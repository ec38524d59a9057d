package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier gives descriptors to whoever listens at an sd_notify socket and knows when they have arrived. Its methods may be called
// concurrently.
type Notifier struct {
	socket  string
	systemd bool // the listener is systemd: it keeps several descriptors under one name and answers barriers with silence
	// one keeps the messages of a call and their barrier together: a keeper tells refusals apart by the sender's pid only.
	one sync.Mutex
}

// Systemd returns a Notifier that uses the fd store of the service manager at socket, the value of NOTIFY_SOCKET. The unit needs
// FileDescriptorStoreMax=; systemd drops silently what exceeds it, and everything when the unit fails or is stopped (but see
// FileDescriptorStorePreserve=, systemd 254), so it must not be the only holder.
func Systemd(socket string) *Notifier { return &Notifier{socket: socket, systemd: true} }

// Hold gives away a duplicate of fd under name and returns when the other side has it.
func (n *Notifier) Hold(name string, fd int) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("hold descriptor: %w", err)
	}
	messages := []outgoing{{storeMessage(name), []int{fd}}}
	if n.systemd {
		// The order in which systemd gives equal names back differs between its versions, so a name is never given twice.
		messages = append([]outgoing{{removeMessage(name), nil}}, messages...)
	}
	if err := n.deliver(messages); err != nil {
		return fmt.Errorf("hold descriptor %q at %s: %w", name, n.socket, err)
	}
	return nil
}

// Release makes the other side close the descriptor; a name that is not held is no error.
func (n *Notifier) Release(name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("release descriptor: %w", err)
	}
	if err := n.deliver([]outgoing{{removeMessage(name), nil}}); err != nil {
		return fmt.Errorf("release descriptor %q at %s: %w", name, n.socket, err)
	}
	return nil
}

// Tell sends a notification such as "READY=1" and does not wait for anything.
func (n *Notifier) Tell(state string) error {
	s, err := connect(n.socket)
	if err == nil {
		defer unix.Close(s)
		err = send(s, []byte(state), nil, 0)
	}
	if err != nil {
		return fmt.Errorf("notify %s of %q: %w", n.socket, state, err)
	}
	return nil
}

type outgoing struct {
	data []byte
	fds  []int
}

// deliver sends messages and a barrier and waits for the barrier's answer.
func (n *Notifier) deliver(messages []outgoing) error {
	n.one.Lock()
	defer n.one.Unlock()
	s, err := connect(n.socket)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	for _, m := range messages {
		if err := send(s, m.data, m.fds, 0); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make barrier: %w", err)
	}
	reader := os.NewFile(uintptr(pipe[0]), "barrier")
	defer reader.Close()
	err = send(s, barrierMessage(), pipe[1:], 0)
	unix.Close(pipe[1])
	if err != nil {
		return fmt.Errorf("send barrier: %w", err)
	}
	return n.awaitBarrier(reader)
}

// awaitBarrier reads the barrier's pipe to its end. From a keeper anything but "ok" is a refusal; nothing at all means that it died with
// the message unread.
func (n *Notifier) awaitBarrier(reader *os.File) error {
	if err := readable(int(reader.Fd()), ioTimeout); err != nil {
		return fmt.Errorf("wait for the barrier for %v: %w", ioTimeout.Round(time.Second), err)
	}
	reply, err := io.ReadAll(io.LimitReader(reader, maxDatagram))
	switch {
	case err != nil:
		return fmt.Errorf("read the barrier's answer: %w", err)
	case n.systemd || string(reply) == "ok":
		return nil
	case len(reply) == 0:
		return errors.New("the keeper ended before it had taken the message")
	default:
		return errors.New("the keeper refused: " + strings.ToValidUTF8(string(reply), "?"))
	}
}
