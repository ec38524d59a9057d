package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/node/control"
)

// serveWithin is how long a daemon may take to answer, with other soaks and tests on the same machine.
const serveWithin = time.Minute

// daemon is pageind, of which there is one process after the other. It is not for concurrent use, except pagein.
type daemon struct {
	place   *place
	program string
	client  string // the program pagein
	args    []string
	api     *control.Client
	process *os.Process // nil while there is none
	ended   chan error
	starts  []time.Duration // from the start of each to its first answer
}

func newDaemon(p *place, args ...string) (*daemon, error) {
	d := &daemon{place: p}
	var err error
	if d.program, err = lab.Ours("pageind"); err != nil {
		return nil, err
	}
	if d.client, err = lab.Ours("pagein"); err != nil {
		return nil, err
	}
	address := "unix://" + p.path("sock")
	d.args = append([]string{"--root", p.root(), "--run", p.path("run"), "--address", address}, args...)
	d.api, err = control.NewClient(address)
	return d, err
}

// start runs a daemon and waits until it answers.
func (d *daemon) start(ctx context.Context) error {
	log, err := os.OpenFile(d.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.program, d.args...) // #nosec G204 -- one of ours
	cmd.Stderr = log
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start pageind: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	d.process, d.ended = cmd.Process, ended
	for end := time.Now().Add(serveWithin); d.api.Health(ctx) != nil; time.Sleep(2 * time.Millisecond) {
		select {
		case err := <-ended:
			d.process = nil
			return fmt.Errorf("pageind ended instead of serving: %w", err)
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("pageind does not answer within %v", serveWithin)
		}
	}
	d.starts = append(d.starts, time.Since(begun))
	return nil
}

// stop ends the daemon and waits until it is gone. The ways in which SIGTERM and SIGKILL end it are no errors.
func (d *daemon) stop(sig unix.Signal) error {
	if d.process == nil {
		return nil
	}
	if err := d.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-d.ended:
		d.process = nil
		if sig == unix.SIGTERM && err != nil {
			return fmt.Errorf("pageind ended with %w", err)
		}
		return nil
	case <-time.After(serveWithin):
		return fmt.Errorf("pageind does not end within %v of %v", serveWithin, sig)
	}
}

// alive reports whether the daemon runs as it should.
func (d *daemon) alive() error {
	select {
	case err := <-d.ended:
		d.process = nil
		return fmt.Errorf("pageind ended by itself: %w", err)
	default:
		return nil
	}
}

// pagein runs the client. Its error has what it said.
func (d *daemon) pagein(ctx context.Context, args ...string) (string, error) {
	out, err := lab.Output(lab.Command(ctx, d.client, append([]string{"--address", "unix://" + d.place.path("sock")}, args...)...))
	return string(out), err
}

func (d *daemon) log() string { return d.place.path("pageind.log") }

// tail is the end of what all daemons have logged.
func (d *daemon) tail() string {
	const shown = 8000
	b, err := os.ReadFile(d.log())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-shown):])
}

// logged counts how often the daemons have logged something.
func (d *daemon) logged(what string) int {
	b, err := os.ReadFile(d.log())
	if err != nil {
		return 0
	}
	return bytes.Count(b, []byte(what))
}

// keeper returns the pid of the daemon's keeper, 0 if there is none.
func (d *daemon) keeper() int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(line, []byte("pagein-keeper")) || !bytes.Contains(line, []byte(d.place.path("run")+"/")) {
			continue // gone already, or somebody else
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			return pid
		}
	}
	return 0
}

// usage is what a process holds.
type usage struct {
	descriptors, marks int
	resident           int64 // bytes
}

// usageOf looks at a process.
func usageOf(pid int) (u usage, err error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return u, err
	}
	for _, path := range infos {
		b, err := os.ReadFile(path)
		if errors.Is(err, unix.ENOENT) {
			continue
		} else if err != nil {
			return u, err
		}
		u.descriptors++
		u.marks += strings.Count(string(b), "fanotify ino:")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			u.resident = kib << 10
		}
	}
	return u, nil
}

// mostOpen is what most descriptors of a process are open on.
func mostOpen(pid int) (name string) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is well-formed
	count := make(map[string]int)
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil { // else closed meanwhile
			kind, _, _ := strings.Cut(target, "[") // sockets and pipes have numbers there
			if count[kind]++; count[kind] > count[name] {
				name = kind
			}
		}
	}
	return name
}
