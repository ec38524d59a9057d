package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/vmtests/wire"
)

// portFD is where the parent puts the virtio port.
const portFD = 3

// sender writes events to the host. Its methods may be called concurrently.
type sender struct {
	mu  sync.Mutex
	enc *json.Encoder
}

// send passes an event on. If the port fails, the host notices by itself that events are missing.
func (s *sender) send(e wire.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enc.Encode(e); err != nil {
		fmt.Fprintln(os.Stderr, "init: send event:", err)
	}
}

// outputOf is an io.Writer for one command's output.
type outputOf struct {
	to      *sender
	command int
}

func (o outputOf) Write(p []byte) (int, error) {
	o.to.send(wire.Event{Kind: wire.KindOutput, Command: o.command, Data: p})
	return len(p), nil
}

func runAll() int {
	out := &sender{enc: json.NewEncoder(os.NewFile(portFD, wire.Port))}
	unix.CloseOnExec(portFD)
	spec, err := readSpec()
	if err != nil {
		out.send(wire.Event{Kind: wire.KindFail, Problem: err.Error()})
		return 1
	}
	out.send(wire.Event{Kind: wire.KindStart})
	for i, c := range spec.Commands {
		start := time.Now()
		e := runOne(c, outputOf{out, i})
		e.Kind, e.Command, e.Millis = wire.KindExit, i, time.Since(start).Milliseconds()
		out.send(e)
	}
	out.send(wire.Event{Kind: wire.KindEnd})
	return 0
}

// runOne runs a command in a process group of its own and returns its end. A command that exceeds its limit is asked for its stacks with
// SIGQUIT, then killed; one that even survives that is stuck in the kernel, and the console is told where.
func runOne(c wire.Command, out outputOf) wire.Event {
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append([]string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "TMPDIR=/tmp"}, c.Env...)
	cmd.Dir = c.Dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 2 * time.Second // a grandchild that keeps the output open must not hold everything up
	if err := cmd.Start(); err != nil {
		return wire.Event{Code: -1, Problem: err.Error()}
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var limit <-chan time.Time
	if c.Millis > 0 {
		limit = time.After(time.Duration(c.Millis) * time.Millisecond)
	}
	select {
	case err := <-done:
		return ended(cmd, err)
	case <-limit:
	}
	problem := fmt.Sprintf("killed after %v", time.Duration(c.Millis)*time.Millisecond)
	for _, signal := range []unix.Signal{unix.SIGQUIT, unix.SIGKILL} {
		_ = unix.Kill(-cmd.Process.Pid, signal) // the group may be gone by now
		select {
		case <-done:
			return wire.Event{Code: -1, Problem: problem}
		case <-time.After(5 * time.Second):
		}
	}
	// SysRq w lists the blocked tasks on the console.
	_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0)
	return wire.Event{Code: -1, Problem: problem + ", but it does not die: blocked tasks are on the console"}
}

func ended(cmd *exec.Cmd, err error) wire.Event {
	e := wire.Event{Code: cmd.ProcessState.ExitCode()}
	if err != nil {
		e.Problem = err.Error()
	}
	return e
}
