package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// grace is how long a program may take to end after SIGTERM before it is killed.
const grace = 10 * time.Second

// programs are the executables that the demo runs.
type programs struct {
	pagein, pageind      string // ours
	registry, crane, tar string // not ours
}

// findPrograms takes ours from the directory of this executable and the others from PATH.
func findPrograms() (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return programs{}, fmt.Errorf("find this program: %w", err)
	}
	p := programs{pagein: filepath.Join(filepath.Dir(self), "pagein"), pageind: filepath.Join(filepath.Dir(self), "pageind")}
	for _, path := range []string{p.pagein, p.pageind} {
		if _, err := os.Stat(path); err != nil {
			return programs{}, fmt.Errorf("find pagein's programs beside this one: %w; run make build", err)
		}
	}
	for name, path := range map[string]*string{"registry": &p.registry, "crane": &p.crane, "tar": &p.tar} {
		if *path, err = exec.LookPath(name); err != nil {
			return programs{}, fmt.Errorf("find program %s: %w; run hack/deps.sh demo", name, err)
		}
	}
	return p, nil
}

// command prepares a program that ends with ctx, gently first. It gets a process group of its own: a ^C is for the demo to handle, which
// then ends its programs in the right order.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	return cmd
}

// output runs a command to its end and returns what it printed; what it said on stderr becomes part of the error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, failed(cmd, err, stderr.String())
	}
	return stdout.Bytes(), nil
}

func failed(cmd *exec.Cmd, err error, stderr string) error {
	return fmt.Errorf("%s %s: %w\n%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, strings.TrimSpace(stderr))
}

// service is a program that runs in the background.
type service struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	err  error // why it ended; valid after done
}

// startService starts a program that runs until stop is called.
func startService(cmd *exec.Cmd) (*service, error) {
	s := &service{cmd: cmd, log: new(tail), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(s.done)
		s.err = cmd.Wait()
	}()
	return s, nil
}

// await asks ready every few milliseconds until it succeeds; a service that ends before or takes longer than the limit is an error.
func (s *service) await(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return failed(s.cmd, fmt.Errorf("ended before it was ready: %w", s.err), s.log.String())
		case <-ctx.Done():
			return failed(s.cmd, fmt.Errorf("not ready after %v: %w", limit, err), s.log.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends the service with SIGTERM, or SIGKILL if it does not heed that in time.
func (s *service) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(grace):
	}
	err := s.cmd.Process.Kill()
	<-s.done
	return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM and was killed", s.cmd.Path, grace), err)
}

// tail keeps the end of what a service logs, for the case that it fails.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// tailSize bounds what a tail keeps, in bytes.
const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// warm reads files so that a program that is started next does not come from disk.
func warm(paths ...string) error {
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("warm %s: %w", path, err)
		}
		_, err = io.Copy(io.Discard, file)
		file.Close()
		if err != nil {
			return fmt.Errorf("warm %s: %w", path, err)
		}
	}
	return nil
}

// dropCaches empties the page cache, so that what is measured next starts cold. It needs root.
func dropCaches() error {
	syscall.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return fmt.Errorf("drop the page cache: %w", err)
	}
	return nil
}
