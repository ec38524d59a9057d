// Package lab is what measurements on a real machine need: programs and services that are started and ended in order, a registry, a daemon,
// a page cache that can be emptied. It knows pagein only as a user does, through its programs and the daemon's API.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// grace is how long a program may take to end after SIGTERM before it is killed.
const grace = 10 * time.Second

// Command prepares a program that ends with ctx, gently first. It gets a process group of its own: a ^C is for this program to handle, which
// then ends its programs in the right order.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	return cmd
}

// Output runs a command to its end and returns what it printed; what it said on stderr becomes part of the error.
func Output(cmd *exec.Cmd) ([]byte, error) {
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

// Pipeline runs two programs, the second reading what the first writes.
func Pipeline(first, second *exec.Cmd) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	firstLog, secondLog := new(tail), new(tail)
	first.Stdout, first.Stderr = writer, firstLog
	second.Stdin, second.Stderr = reader, secondLog
	err = first.Start()
	writer.Close()
	if err != nil {
		reader.Close()
		return failed(first, err, "")
	}
	err = second.Start()
	reader.Close()
	if err != nil {
		return errors.Join(failed(second, err, ""), first.Wait())
	}
	firstErr, secondErr := first.Wait(), second.Wait()
	if secondErr != nil {
		return failed(second, secondErr, secondLog.String())
	}
	if firstErr != nil {
		return failed(first, firstErr, firstLog.String())
	}
	return nil
}
