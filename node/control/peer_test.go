package control

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// TestOnlyRootIsAnswered opens the socket to everybody, as a careless administrator might: another user is hung up on before anything is read, root is not.
func TestOnlyRootIsAnswered(t *testing.T) {
	require.Root(t)
	address := serve(t, &fake{})
	path, err := SocketPath(address)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
	}
	for _, p := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		uid  int
		want string
	}{{0, "HTTP/1.1 200 OK"}, {65534, ""}} {
		got := make(chan string)
		go func() {
			defer close(got)
			got <- askAs(t, c.uid, path)
		}()
		if answer := <-got; len(answer) < len(c.want) || answer[:len(c.want)] != c.want || c.want == "" && answer != "" {
			t.Errorf("uid %d: answered %q, want %q", c.uid, answer, c.want)
		}
	}
}

// askAs connects as another user and returns what is answered. The goroutine's thread ends with it.
func askAs(t *testing.T, uid int, path string) string {
	runtime.LockOSThread() // and never unlocked
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		t.Errorf("become uid %d: %v", uid, errno)
		return ""
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return ""
	}
	conn := os.NewFile(uintptr(s), "socket")
	defer conn.Close()
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Errorf("uid %d: connect: %v", uid, err)
		return ""
	}
	_, _ = io.WriteString(conn, "GET /v1/healthz HTTP/1.1\r\nHost: pageind\r\nConnection: close\r\n\r\n") // it may be closed already
	answer, _ := io.ReadAll(conn)
	return string(answer)
}
