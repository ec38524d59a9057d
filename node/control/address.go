package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SocketPath returns the absolute path in an address: "unix:///run/x.sock", "unix://x.sock" or an absolute path alone.
func SocketPath(address string) (string, error) {
	path, isURL := strings.CutPrefix(address, "unix://")
	if !isURL && !filepath.IsAbs(path) || path == "" {
		return "", fmt.Errorf("address %q is neither unix://PATH nor an absolute path", address)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", address, err)
	}
	if len(path) > 107 { // sun_path has 108 bytes, one of them for the final NUL
		return "", fmt.Errorf("address %q: the path has %d bytes, a socket's has at most 107", address, len(path))
	}
	return path, nil
}

// Listen opens the daemon's socket with mode 0600, making its directory. A socket that somebody answers at is an error; a dead one is replaced.
// Two daemons that start at the same moment must be kept apart by other means: the lock on their root directory.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	path, err := SocketPath(address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return nil, fmt.Errorf("listen at %s: another daemon answers there", path)
	case errors.Is(err, unix.ECONNREFUSED):
		err = removeSocket(path)
	case errors.Is(err, unix.ENOENT):
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("listen at %s: replace what is there: %w", path, err)
	}
	// bind(2) applies the socket's own mode to the file it makes: nobody else can connect in between.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmodErr error
		err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmodErr)
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return l, nil
}

// removeSocket removes a socket and nothing else.
func removeSocket(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return errors.New("it is no socket")
	}
	return os.Remove(path)
}
