// Package servertest starts real servers for tests, on loopback and with directories of their own: distribution's registry with a token server, versitygw for S3, nginx for
// files, tinyproxy as forward proxy.
//
// It knows how these programs are configured and how to tell that they are ready, and nothing of pagein. The one idea to hold in mind: a server lives no longer than
// its test, whatever happens to the test.
package servertest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a running server.
type Process struct {
	Addr string // host:port

	t    testing.TB
	data string // directory, of a registry
	cmd  *exec.Cmd
	log  *output
	done chan struct{}
}

const (
	// readyWithin is how long a server may take to start, on an emulated machine too.
	readyWithin = time.Minute
	// grace is how long a server may take to end after SIGTERM.
	grace = 5 * time.Second
)

// start starts a server at a free port of loopback and waits until ready succeeds. Command makes the command for an address. A port that another program has taken
// meanwhile is replaced.
func start(t testing.TB, command func(addr string) *exec.Cmd, ready func(addr string) error) *Process {
	t.Helper()
	const tries = 3
	var last error
	for range tries {
		p := launch(t, freeAddress(t), command)
		if last = p.await(ready); last == nil {
			return p
		}
		p.Stop()
	}
	t.Fatal(last)
	return nil
}

// startAt starts a server at an address that nobody else takes.
func startAt(t testing.TB, addr string, command func(addr string) *exec.Cmd, ready func(addr string) error) *Process {
	t.Helper()
	p := launch(t, addr, command)
	if err := p.await(ready); err != nil {
		t.Fatal(err)
	}
	return p
}

func launch(t testing.TB, addr string, command func(addr string) *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Addr: addr, t: t, cmd: command(addr), log: new(output), done: make(chan struct{})}
	p.run()
	t.Cleanup(p.Stop)
	return p
}

func (p *Process) run() {
	p.t.Helper()
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	done, cmd := p.done, p.cmd
	go func() {
		defer close(done)
		_ = cmd.Wait() // who cares looks at the log
	}()
}

func (p *Process) await(ready func(addr string) error) error {
	var err error
	for end := time.Now().Add(readyWithin); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = ready(p.Addr); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", p.cmd.Path, err, p.log)
		default:
		}
	}
	return fmt.Errorf("%s is not ready: %w\n%s", p.cmd.Path, err, p.log)
}

// Stop ends the server, if it still runs.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Kill ends the server as a crash does.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Restart starts a server that was stopped again, at the same address.
func (p *Process) Restart(ready func(addr string) error) {
	p.t.Helper()
	p.Stop()
	old := p.cmd
	p.cmd, p.done = exec.Command(old.Path, old.Args[1:]...), make(chan struct{}) // #nosec G204 -- as before
	p.cmd.Dir, p.cmd.Env = old.Dir, old.Env
	p.run()
	if err := p.await(ready); err != nil {
		p.t.Fatal(err)
	}
}

// Log is what the server has printed.
func (p *Process) Log() string { return p.log.String() }

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Listens reports whether somebody accepts connections.
func Listens(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// answers reports whether a URL is answered, with whatever status.
func answers(url string) error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// writeFile writes a server's configuration.
func writeFile(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// maxOutput bounds what is kept of what a server prints, in bytes.
const maxOutput = 1 << 20

// output keeps what a server prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() < maxOutput {
		o.buf.Write(p)
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
