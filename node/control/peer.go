package control

import (
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// trusted accepts connections of root and of the user that this process runs as, and hangs up on all others. The socket's mode keeps them out already; a mode can be changed
// by mistake, and a socket can be handed on, but who connected cannot be forged.
type trusted struct {
	*net.UnixListener
	log *slog.Logger
}

// Trusted returns a listener at which only root and the user that this process runs as are answered, if l is a unix socket, else l.
func Trusted(l net.Listener, log *slog.Logger) net.Listener {
	if socket, ok := l.(*net.UnixListener); ok {
		return trusted{socket, log}
	}
	return l
}

// Accept is that of net.Listener.
func (l trusted) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := credentials(conn)
		if err == nil && (peer.Uid == 0 || peer.Uid == uint32(os.Geteuid())) { // #nosec G115 -- a uid has 32 bits
			return conn, nil
		}
		l.log.Warn("refused a connection", "address", l.Addr(), "peer", peer, "err", err)
		conn.Close()
	}
}

// credentials tells who connected, as the kernel noted it at that moment.
func credentials(conn *net.UnixConn) (unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return unix.Ucred{}, fmt.Errorf("ask who connected: %w", err)
	}
	var peer *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) { peer, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return unix.Ucred{}, fmt.Errorf("ask who connected: %w", err)
	}
	if optErr != nil {
		return unix.Ucred{}, fmt.Errorf("ask who connected: %w", optErr)
	}
	return *peer, nil
}
