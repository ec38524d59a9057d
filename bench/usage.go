package main

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"time"

	"github.com/pagein/pagein/bench/lab"
)

// usage is what runs of a program took.
type usage struct {
	seconds []float64
	cpu     []float64 // seconds, of all cores
	peakMiB float64   // highest resident size of any run
}

// run runs a program to its end, notes what it took, and returns what it printed.
func (u *usage) run(cmd *exec.Cmd) ([]byte, error) {
	syscall.Sync() // what the run before has left to write is not this one's to pay for
	began := time.Now()
	out, err := lab.Output(cmd)
	took := time.Since(began)
	if err != nil {
		return nil, err
	}
	state := cmd.ProcessState
	rusage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return nil, errors.New("this system does not say what a program took")
	}
	u.seconds = append(u.seconds, took.Seconds())
	u.cpu = append(u.cpu, (state.UserTime() + state.SystemTime()).Seconds())
	u.peakMiB = max(u.peakMiB, float64(rusage.Maxrss)/1024) // Linux counts KiB
	return out, nil
}

// contestant is one of several programs that do the same work in turns.
type contestant struct {
	usage
	name    string
	prepare func() error // before each run, not timed; may be nil
	command func(context.Context) *exec.Cmd
	finish  func(out []byte) error // after each run, not timed; may be nil
}

// compete runs the contestants in turns, each as often as asked for.
func compete(ctx context.Context, runs int, all ...*contestant) error {
	for range runs {
		for _, c := range all {
			if err := c.turn(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *contestant) turn(ctx context.Context) error {
	if c.prepare != nil {
		if err := c.prepare(); err != nil {
			return err
		}
	}
	out, err := c.run(c.command(ctx))
	if err != nil || c.finish == nil {
		return err
	}
	return c.finish(out)
}
