package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Service is a program that runs in the background.
type Service struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	err  error // why it ended; valid after done
}

// StartService starts a program that runs until Stop is called.
func StartService(cmd *exec.Cmd) (*Service, error) {
	s := &Service{cmd: cmd, log: new(tail), done: make(chan struct{})}
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

// Await asks ready every few milliseconds until it succeeds; a service that ends before or takes longer than the limit is an error.
func (s *Service) Await(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
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

// Kill ends the service without asking, and returns when it is gone.
func (s *Service) Kill() error {
	err := s.cmd.Process.Kill()
	<-s.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Stop ends the service with SIGTERM, or SIGKILL if it does not heed that in time.
func (s *Service) Stop() error {
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
