// Package helper asks programs that an administrator has named: credential helpers of Docker, plugins of kubelet, and commands that decide whom to trust.
//
// It knows processes and no protocol. The one idea to hold in mind: whatever such a program does, it is over in time, and with it all that it has started.
package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxOutput bounds what a program may print, in bytes.
	maxOutput = 1 << 20
	// maxSaid bounds what is kept of its standard error, in bytes.
	maxSaid = 4 << 10
	// grace is how long whoever left the program's process group may hold its pipes when the program has ended.
	grace = time.Second
)

// Program is what to run.
type Program struct {
	Path string // or a name that is looked for in $PATH
	Args []string
	Env  []string // "NAME=VALUE", nil for that of this process
}

// Answer is what a program printed.
type Answer struct {
	Out  []byte // its standard output, which may hold secrets
	Said string // the beginning of its standard error
}

// Ask runs a program with something to read and returns what it prints, also if it fails. It is killed if it takes longer than patience, and what it has started is killed when it ends.
func Ask(ctx context.Context, p Program, question []byte, patience time.Duration) (Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer for %s", patience))
	defer cancel()
	out, said := limited{left: maxOutput}, limited{left: maxSaid, cut: true}
	cmd := exec.CommandContext(ctx, p.Path, p.Args...) // #nosec G204 -- the administrator named it
	cmd.Env = p.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(question), &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = grace
	err := Run(cmd)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case out.over:
		err = errTooMuch
	}
	return Answer{Out: out.buf.Bytes(), Said: said.buf.String()}, err
}

// Run runs a command, which must have a process group of its own, and kills what is left of that when the command has ended.
func Run(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	// As long as nobody has waited for the process, no other group can have its number.
	for errors.Is(unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // there may be nobody
	return cmd.Wait()
}

var errTooMuch = fmt.Errorf("it prints more than %d bytes", maxOutput)

// limited keeps what is written to it as long as that is not too much, and then refuses it, or ignores it.
type limited struct {
	buf  bytes.Buffer
	left int
	cut  bool // ignore it
	over bool // there was too much
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left && !l.cut {
		l.over = true
		return 0, errTooMuch
	}
	kept := p[:min(len(p), l.left)]
	l.left -= len(kept)
	l.buf.Write(kept)
	return len(p), nil
}
