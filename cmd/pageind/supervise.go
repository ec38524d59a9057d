package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

const (
	// firstPause is how long the supervisor waits before it starts the daemon again; it doubles with every failure, up to longestPause, until the daemon was up for
	// calmAfter.
	firstPause   = 20 * time.Millisecond
	longestPause = 10 * time.Second
	calmAfter    = time.Minute
	// readyEnv has the number of a descriptor that a supervised daemon closes after a word when it is up.
	readyEnv = "PAGEIND_READY_FD"
)

// supervise runs this program as a daemon, without the option that asks for a supervisor, and starts it again whenever it fails. What was mounted is taken up like after
// any other start: the keeper has it. A daemon that fails before one was ever up is not started again, for then something is wrong with how it was called.
func supervise(ctx context.Context, cfg config) error {
	runtime.LockOSThread() // the kernel takes the end of the thread that started a process for the end of its parent
	defer runtime.UnlockOSThread()
	log, err := cfg.logger(os.Stderr)
	if err != nil {
		return cli.Exit(err.Error(), exitUsage)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start pageind under supervision: %w", err)
	}
	pause, everUp := firstPause, false
	for {
		began := time.Now()
		up, err := runSupervised(ctx, self, log)
		everUp = everUp || up
		switch {
		case err == nil, errors.Is(err, context.Canceled): // the daemon ended as it was told to, or was not started any more
			return nil
		case ctx.Err() != nil || !everUp:
			return statusOf(err)
		case time.Since(began) >= calmAfter:
			pause = firstPause
		}
		log.Error("pageind has ended and is started again; what is mounted waits for it", "err", err, "in", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// runSupervised runs one daemon, to which it hands on the wish to stop, and reports whether it was ever up.
func runSupervised(ctx context.Context, self string, log *slog.Logger) (up bool, err error) {
	ready, readyW, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer ready.Close()
	// The program that is at that path now: it may have been replaced by another version.
	cmd := exec.CommandContext(ctx, self, withoutSupervise(os.Args[1:])...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{readyW}
	cmd.Env = append(os.Environ(), readyEnv+"=3")
	// A terminal's ^C is for the supervisor: two signals end a daemon the hard way. Should the supervisor be killed, the daemon ends too and makes room for the next.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	err = cmd.Start()
	readyW.Close()
	if err != nil {
		return false, err
	}
	log.Debug("pageind is started", "pid", cmd.Process.Pid)
	word := make(chan bool, 1)
	go func() {
		b, _ := io.ReadAll(ready) // ends with the daemon
		word <- len(b) > 0
	}()
	err = cmd.Wait()
	return <-word, err
}

// withoutSupervise leaves out the option in each of its forms.
func withoutSupervise(args []string) []string {
	forms := []string{"--supervise", "-supervise", "--supervise=true", "-supervise=true"}
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return slices.Contains(forms, a) })
}

// statusOf has the supervisor end like its daemon.
func statusOf(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return cli.Exit("pageind ended under supervision, see above", exit.ExitCode())
	}
	return fmt.Errorf("pageind ended under supervision: %w", err)
}

// supervisor is who started this process under supervision; nil if nobody did.
func supervisor() *os.File {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	os.Unsetenv(readyEnv)
	if err != nil || fd < 0 {
		return nil
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "supervisor")
}
