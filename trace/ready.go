package trace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Condition says when a workload is ready.
type Condition struct {
	text string
	wait func(ctx context.Context, w Workload) error
	// Log is what a line of the workload's output must match; nil if another condition was asked for.
	Log *regexp.Regexp
}

// Workload is what is waited for.
type Workload struct {
	// PID returns the number of one of its processes, or 0 while there is none. It may be called concurrently.
	PID func() int
	// Logged is closed when a line has matched Condition.Log.
	Logged <-chan struct{}
	// Began returns whether the workload has begun, which its times count from; nil if it has. It may be called concurrently.
	Began func() bool
}

// askEvery is how often a condition is looked at.
const askEvery = 50 * time.Millisecond

// ParseCondition reads a condition: port:N (a TCP port that the workload listens at), log:REGEX (a line of its output), exec:COMMAND (of a shell, ends with success) or time:DURATION (since the workload began).
// "" is no condition: such a workload is never ready.
func ParseCondition(text string) (Condition, error) {
	c := Condition{text: text, wait: never}
	if text == "" {
		return c, nil
	}
	kind, value, _ := strings.Cut(text, ":")
	var err error
	switch kind {
	case "port":
		var port uint64
		port, err = strconv.ParseUint(value, 10, 16)
		c.wait = func(ctx context.Context, w Workload) error {
			return until(ctx, func() bool { pid := w.PID(); return pid != 0 && listens(pid, uint16(port)) }) // #nosec G115 -- parsed as 16 bits
		}
	case "log":
		c.Log, err = regexp.Compile(value)
		c.wait = func(ctx context.Context, w Workload) error {
			select {
			case <-w.Logged:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	case "exec":
		if value == "" {
			err = errors.New("no command is given")
		}
		c.wait = func(ctx context.Context, _ Workload) error {
			return until(ctx, func() bool { return exec.CommandContext(ctx, "/bin/sh", "-c", value).Run() == nil }) // #nosec G204 -- the user's own command
		}
	case "time":
		var d time.Duration
		d, err = time.ParseDuration(value)
		if err == nil && d <= 0 {
			err = errors.New("it must be more than 0")
		}
		c.wait = func(ctx context.Context, w Workload) error {
			if w.Began != nil {
				if err := until(ctx, w.Began); err != nil {
					return err
				}
			}
			return sleep(ctx, d)
		}
	default:
		err = errors.New("known are port:N, log:REGEX, exec:COMMAND and time:DURATION")
	}
	if err != nil {
		return c, fmt.Errorf("read the condition %q: %w", text, err)
	}
	return c, nil
}

// Wait waits until the workload is ready, or ctx is done, whose error it returns then.
func (c Condition) Wait(ctx context.Context, w Workload) error { return c.wait(ctx, w) }

// String is the condition as it was given.
func (c Condition) String() string { return c.text }

func never(ctx context.Context, _ Workload) error {
	<-ctx.Done()
	return ctx.Err()
}

func until(ctx context.Context, ready func() bool) error {
	for !ready() {
		if err := sleep(ctx, askEvery); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listens says whether somebody in the network namespace of a process listens at a TCP port.
func listens(pid int, port uint16) bool {
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		found := listening(f, port)
		_ = f.Close()
		if found {
			return true
		}
	}
	return false
}

// listening looks for a port in a table as in /proc/net/tcp (proc(5)): the second field is the address, in hexadecimal digits, the fourth the state.
func listening(table io.Reader, port uint16) bool {
	const listen = "0A" // TCP_LISTEN
	want := fmt.Sprintf(":%04X", port)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) > 3 && f[3] == listen && strings.HasSuffix(f[1], want) {
			return true
		}
	}
	return false
}

// maxLine bounds what of a line of output is looked at, in bytes.
const maxLine = 64 << 10

// LogWriter passes output on, and calls matched once, when a line of it matches. It is for one goroutine at a time.
type LogWriter struct {
	To      io.Writer
	Match   *regexp.Regexp
	Matched func()
	line    []byte
}

// Write implements io.Writer.
func (l *LogWriter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			l.look()
			l.line = l.line[:0]
		} else if len(l.line) < maxLine {
			l.line = append(l.line, b)
		}
	}
	l.look() // a prompt has no end of line
	return l.To.Write(p)
}

func (l *LogWriter) look() {
	if l.Match != nil && l.Match.Match(l.line) {
		l.Match = nil
		l.Matched()
	}
}
