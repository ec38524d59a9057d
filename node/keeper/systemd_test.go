package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
)

// A stand-in for the service manager's socket: what it gets is what systemd would.
func notifySocket(t *testing.T) (path string, sock int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "s")
	sock, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(sock) })
	if err := unix.Bind(sock, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	return path, sock
}

func TestSystemdGetsWhatItUnderstands(t *testing.T) {
	path, sock := notifySocket(t)
	n := Systemd(path)
	fd := memfd(t, "kept")
	for _, c := range []struct {
		call func() error
		want []string
	}{
		{func() error { return n.Hold("x", fd) }, []string{"FDSTOREREMOVE=1\nFDNAME=x", "FDSTORE=1\nFDNAME=x\nFDPOLL=0", "BARRIER=1"}},
		{func() error { return n.Release("x") }, []string{"FDSTOREREMOVE=1\nFDNAME=x", "BARRIER=1"}},
	} {
		done := make(chan error, 1)
		go func() { done <- c.call() }()
		var got []string
		for range c.want {
			if err := readable(sock, await.Patience); err != nil {
				t.Fatal(err)
			}
			r, err := receive(sock, make([]byte, maxDatagram), 0)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(r.data))
			switch {
			case strings.HasPrefix(string(r.data), "FDSTORE="):
				if len(r.fds) != 1 || content(t, r.fds[0]) != "kept" {
					t.Errorf("FDSTORE came with %v", r.fds)
				}
			case string(r.data) == "BARRIER=1":
				select {
				case err := <-done:
					t.Fatalf("the call ended (%v) before the barrier", err)
				case <-time.After(50 * time.Millisecond):
				}
			}
			r.close() // releases the barrier, in silence
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("systemd got %q, want %q", got, c.want)
		}
	}
	if err := Systemd(path+"-none").Hold("x", fd); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without a manager: %v", err)
	}
}

// A keeper that dies with a message unread closes the barrier in silence too: that must not pass for having taken it.
func TestSilenceOfAKeeperIsNoConsent(t *testing.T) {
	path, sock := notifySocket(t)
	n, fd := &Notifier{socket: path}, memfd(t, "x")
	done := make(chan error, 1)
	go func() { done <- n.Hold("x", fd) }()
	if err := readable(sock, await.Patience); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // let the barrier be queued
	for {
		r, err := receive(sock, make([]byte, maxDatagram), unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		r.close()
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "ended before") {
		t.Errorf("got %v", err)
	}
}

func TestAbstractSocketsAreUnderstood(t *testing.T) {
	name := fmt.Sprintf("@pagein-test-%d", os.Getpid())
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sock)
	if err := unix.Bind(sock, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	s, err := connect(name)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(s)
}
