package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/trace"
)

// traced is what a recording came to.
type traced struct {
	*trace.Recording
	began   time.Time
	ready   time.Duration // 0 = it ended before
	took    time.Duration
	stats   bpf.Stats
	variant string // of the probes, or missLog
}

// missLog is what stands in for probes where none works: what pageind remembers of what it was asked for.
const missLog = "misses"

// patience is how long CMD may take to end after SIGTERM.
const patience = 10 * time.Second

// errReady ends a recording.
var errReady = errors.New("the workload is ready")

// record records until the workload is ready or over, or ctx is done. Without a recording the error says why there is none, else what was wrong with the workload.
func (t *tracing) record(ctx context.Context) (*traced, error) {
	scope, err := t.scope()
	if err != nil {
		return nil, err
	}
	tracer, err := t.probes(scope.options)
	if err != nil {
		return nil, err
	}
	defer tracer.Close()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)

	var pid atomic.Int64 // of the workload
	pid.Store(int64(scope.pid))
	logged := make(chan struct{})
	r := &traced{variant: tracer.Variant(), began: time.Now()}
	begin := monotonic()
	origin := begin
	if scope.pid == 0 && len(t.args) == 0 {
		origin = 0 // the next container begins with its first touch
	}
	workload := func() error { <-ctx.Done(); return nil }
	if len(t.args) > 0 {
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
		waits := ""
		if origin == 0 && r.variant != missLog {
			waits = ", once a container of " + t.image + " starts"
		}
		t.say("recording, by %s%s; Ctrl-C ends it", tracer.Variant(), waits)
	}

	r.Recording = trace.NewRecording(origin)
	var touched atomic.Bool
	touched.Store(origin != 0 || r.variant == missLog)
	readyAt := make(chan time.Duration, 1)
	go func() {
		if t.until.Wait(ctx, trace.Workload{PID: func() int { return int(pid.Load()) }, Logged: logged, Began: touched.Load}) == nil {
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
		if scope.accept(touch) {
			pid.CompareAndSwap(0, int64(touch.TGID))
			touched.Store(true)
			r.Add(touch)
		}
		return nil
	})
	end(err)
	r.took = monotonic() - begin
	broken := <-over
	select {
	case at := <-readyAt:
		r.ready = max(at-cmp.Or(r.Origin(), begin), time.Microsecond)
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

// recorder is a bpf.Tracer, or stands in for one.
type recorder interface {
	Variant() string
	RemoveProcess(pid int) error
	Run(ctx context.Context, each func(bpf.Touch) error) error
	Stats() (bpf.Stats, error)
	Close() error
}

// probes begins to record with the probes that were asked for, or the first that work. Where none does, pageind's record has to do.
func (t *tracing) probes(opts bpf.Options) (recorder, error) {
	opts.Variant = t.c.String("probe")
	if opts.Variant != missLog {
		tracer, err := bpf.Open(opts)
		if opts.Variant != "" || !errors.Is(err, errors.ErrUnsupported) {
			return tracer, err
		}
		t.say("no probe works: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	t.say("what the kernel asks pageind for is written instead: whoever reads, with what is read ahead, and without what was cached")
	return noProbes{}, nil
}

// noProbes records nothing.
type noProbes struct{}

func (noProbes) Variant() string           { return missLog }
func (noProbes) RemoveProcess(int) error   { return nil }
func (noProbes) Stats() (bpf.Stats, error) { return bpf.Stats{}, nil }
func (noProbes) Close() error              { return nil }

func (noProbes) Run(ctx context.Context, _ func(bpf.Touch) error) error {
	<-ctx.Done()
	return nil
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

// traceScope is what is recorded.
type traceScope struct {
	options bpf.Options
	accept  func(bpf.Touch) bool // whether a touch counts
	pid     int                  // of a process of the workload, 0 while there is none
}

func (t *tracing) scope() (traceScope, error) {
	s := traceScope{accept: func(bpf.Touch) bool { return true }}
	switch {
	case len(t.args) > 0:
		s.options.Processes = []int{os.Getpid()}
	case t.container != "":
		c, err := trace.FindContainer(t.container)
		if err != nil {
			return s, err
		}
		s.pid = c.Processes[0]
		if c.Cgroup != "" {
			s.options.Cgroups = []string{c.Cgroup}
		} else {
			s.options.Processes = c.Processes
		}
	case trace.CgroupRoot() == "" && t.c.String("probe") != missLog:
		return s, errors.New("a new container cannot be told from what runs already: no control groups of version 2 are mounted")
	default:
		old, err := trace.Cgroups()
		if err != nil {
			return s, err
		}
		s.accept = t.next(old)
	}
	return s, nil
}

// next accepts touches of the image by the first container that was not there before.
func (t *tracing) next(old map[uint64]bool) func(bpf.Touch) bool {
	var container uint64
	return func(touch bpf.Touch) bool {
		if container == 0 && !old[touch.Cgroup] && t.mounts.shows(t.c.Context, touch.Device, t.image) {
			container = touch.Cgroup
		}
		return container != 0 && touch.Cgroup == container
	}
}

// monotonic is the time on the clock of touches.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
