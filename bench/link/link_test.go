package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// echo serves connections on loopback: everything a client sends comes back once the client has closed its half.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if data, err := io.ReadAll(conn); err == nil {
					conn.Write(data) //nolint:errcheck // the client checks what arrives
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func start(t *testing.T, cfg Config) *Link {
	t.Helper()
	l, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l *Link) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func TestRealConnectionsAreShapedAndCounted(t *testing.T) {
	const (
		rtt  = 20 * time.Millisecond
		size = 1 << 20
	)
	l := start(t, Config{Target: echo(t), Rate: 100e6, RTT: rtt})
	data := pattern(size)
	began := time.Now()
	conn := dial(t, l)
	if _, err := conn.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back of %d, error %v: or other bytes than were sent", len(got), size, err)
	}
	// There and back over 12.5 MB/s, a handshake and a round trip; there is no upper bound on a busy machine worth asserting.
	if least := 2*time.Duration(size)*time.Second/12500000 + 2*rtt; time.Since(began) < least {
		t.Errorf("round trip of %d bytes took %v, less than the link allows: %v", size, time.Since(began), least)
	}
	if c := l.Counters(); c != (Counters{Down: size, Up: size, Connections: 1}) {
		t.Errorf("counted %+v, want %d bytes each way and one connection", c, size)
	}
}

func TestRefusedTargetClosesTheConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	conn := dial(t, start(t, Config{Target: addr, Rate: 1e9}))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read through a link to nowhere: %d bytes, error %v; want the connection closed", n, err)
	}
}

func TestCloseEndsIdleConnections(t *testing.T) {
	l := start(t, Config{Target: echo(t), Rate: 1e9})
	conn := dial(t, l)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- l.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Errorf("Close: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close waits for a connection that is idle")
	}
}

func TestNonsenseLinksAreRefused(t *testing.T) {
	for _, cfg := range []Config{{}, {Rate: -1}, {Rate: 7}, {Rate: 8, RTT: -time.Second}} {
		if l, err := Start(cfg); err == nil {
			l.Close()
			t.Errorf("Start(%+v) succeeded", cfg)
		}
	}
}
