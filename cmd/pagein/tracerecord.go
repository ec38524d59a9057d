package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/trace"
)

// traced is what a recording came to.
type traced struct {
	*trace.Recording
	ready   time.Duration // 0 = it ended before
	took    time.Duration
	stats   bpf.Stats
	variant string
}

// patience is how long CMD may take to end after SIGTERM.
const patience = 10 * time.Second

// errReady ends a recording.
var errReady = errors.New("the workload is ready")

// record records until the workload is ready or over, or ctx is done. Without a recording the error says why there is none, else what was wrong with the workload.
func (t *tracing) record(ctx context.Context) (*traced, error) {
	opts, accept, err := t.scope()
	if err != nil {
		return nil, err
	}
	opts.Variant = t.c.String("probe")
	tracer, err := bpf.Open(opts)
	if err != nil {
		return nil, err
	}
	defer tracer.Close()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)

	var pid atomic.Int64 // of the workload
	logged := make(chan struct{})
	origin := time.Duration(0)
	workload := func() error { <-ctx.Done(); return nil }
	if len(t.args) > 0 {
		origin = monotonic()
		cmd := t.command(ctx, func() { close(logged) })
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("run %s: %w", t.args[0], err)
		}
		pid.Store(int64(cmd.Process.Pid))
		workload = cmd.Wait
		// What is run from now on to see whether CMD is ready is none of its doing.
		if err := tracer.RemoveProcess(os.Getpid()); err != nil {
			end(err)
			return nil, errors.Join(err, cmd.Wait())
		}
	} else {
		if len(opts.Processes) > 0 {
			pid.Store(int64(opts.Processes[0]))
		}
		t.say("recording, by %s; Ctrl-C ends it", tracer.Variant())
	}

	r := &traced{Recording: trace.NewRecording(origin), variant: tracer.Variant()}
	begin := monotonic()
	readyAt := make(chan time.Duration, 1)
	go func() {
		if t.until.Wait(ctx, trace.Workload{PID: func() int { return int(pid.Load()) }, Logged: logged}) == nil {
			readyAt <- monotonic()
			end(errReady)
		}
	}()
	over := make(chan error, 1)
	go func() {
		err := workload()
		end(nil)
		over <- err
	}()
	err = tracer.Run(ctx, func(touch bpf.Touch) error {
		if accept(touch) {
			pid.CompareAndSwap(0, int64(touch.TGID))
			r.Add(touch)
		}
		return nil
	})
	end(err)
	r.took = monotonic() - begin
	broken := <-over
	select {
	case at := <-readyAt:
		r.ready = max(at-r.Origin(), time.Microsecond)
		broken = nil // it was ended by us
	default:
	}
	stats, statsErr := tracer.Stats()
	r.stats = stats
	if err := errors.Join(err, statsErr); err != nil {
		return nil, err
	}
	if broken != nil && context.Cause(ctx) == context.Canceled { // nobody ended CMD
		broken = fmt.Errorf("run %s: %w", t.args[0], broken)
	}
	return r, broken
}

// command prepares CMD.
func (t *tracing) command(ctx context.Context, matched func()) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.args[0], t.args[1:]...) // #nosec G204 -- the user's own command
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = patience
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, t.c.App.Writer, t.c.App.ErrWriter
	if t.until.Log != nil {
		log := &trace.LogWriter{To: t.c.App.Writer, Match: t.until.Log, Matched: matched}
		cmd.Stdout, cmd.Stderr = log, log // one and the same: os/exec then writes from one goroutine
	}
	return cmd
}

// scope says what is recorded, and which of the touches count.
func (t *tracing) scope() (bpf.Options, func(bpf.Touch) bool, error) {
	all := func(bpf.Touch) bool { return true }
	switch {
	case len(t.args) > 0:
		return bpf.Options{Processes: []int{os.Getpid()}}, all, nil
	case t.container != "":
		c, err := trace.FindContainer(t.container)
		if err != nil {
			return bpf.Options{}, nil, err
		}
		if c.Cgroup != "" {
			return bpf.Options{Cgroups: []string{c.Cgroup}}, all, nil
		}
		return bpf.Options{Processes: c.Processes}, all, nil
	}
	accept, err := t.next()
	return bpf.Options{}, accept, err
}

// next accepts touches of the image by the first container that was not there before.
func (t *tracing) next() (func(bpf.Touch) bool, error) {
	old, err := trace.Cgroups()
	if err != nil {
		return nil, err
	}
	var container uint64
	return func(touch bpf.Touch) bool {
		if container == 0 && !old[touch.Cgroup] && t.isOf(touch.Device) {
			container = touch.Cgroup
		}
		return container != 0 && touch.Cgroup == container
	}, nil
}

// isOf says whether a device is the image that was asked for. It may just have been mounted.
func (t *tracing) isOf(device uint64) bool {
	if _, ok := t.mounts.images[device]; !ok && t.mounts.look(t.c.Context) != nil {
		return false
	}
	image, ok := t.mounts.images[device]
	if !ok {
		return false
	}
	wanted, err := findImage(t.mounts.status, t.image)
	return err == nil && wanted.ID == image.ID
}

// monotonic is the time on the clock of touches.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
