package kmount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// childName as argv[0] makes [Init] do a task instead of returning.
	childName = "pagein-kmount"
	// killGrace is how long a killed child may take to be gone before it is left behind.
	killGrace = 200 * time.Millisecond
)

// task is what the child reads from its standard input.
type task struct {
	Mount  *EROFS `json:",omitempty"`
	Bind   string `json:",omitempty"`
	Target string
}

// answer is what the child writes to its standard output. A child that wrote none did not attach anything it knows of.
type answer struct {
	Failed *Error `json:",omitempty"`
}

// Init does the child's work and exits when this process was started by [Mount] or [Bind]; otherwise it returns at once. Call it before
// anything else in main.
func Init() {
	if len(os.Args) != 1 || os.Args[0] != childName {
		return
	}
	var t task
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		fmt.Fprintf(os.Stderr, "%s: read task: %v\n", childName, err)
		os.Exit(1)
	}
	var a answer
	if err := t.do(); err != nil && !errors.As(err, &a.Failed) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", childName, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

func (t task) do() error {
	if t.Mount != nil {
		return mountEROFS(*t.Mount, t.Target)
	}
	return bind(t.Bind, t.Target)
}

// inChild has a new process do t and returns its result, or ctx's error once the child has been killed.
func inChild(ctx context.Context, t task) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if os.Args[0] == childName {
		return errors.New("this is the mounting child itself: main does not call kmount.Init first")
	}
	input, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("describe the task to the mounting child: %w", err)
	}
	started := make(chan int, 1)
	done := make(chan error, 1)
	go func() { done <- runChild(input, started) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	var pid int
	select {
	case err := <-done:
		return err
	case pid = <-started:
	}
	// The pid cannot have been reused: the child is reaped by runChild, which has not reported.
	_ = unix.Kill(pid, unix.SIGKILL)
	select {
	case err := <-done:
		if err == nil {
			return nil // it had finished before the signal
		}
		return fmt.Errorf("child killed: %w", ctx.Err())
	case <-time.After(killGrace):
		return fmt.Errorf("child %d is stuck in the kernel and left behind: %w", pid, ctx.Err())
	}
}

// runChild runs one child to its end. It stays on one thread because the death signal is tied to the thread that started the child: when
// this process dies, the child must not attach a mount that the next daemon knows nothing of.
func runChild(input []byte, started chan<- int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	in, err := pipeWith(input)
	if err != nil {
		return err
	}
	defer in.Close()
	out, outW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start mounting child: %w", err)
	}
	defer out.Close()
	errs := &tail{}
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe", // still this program after an upgrade has replaced its file
		Args:        []string{childName},
		Env:         []string{"GOMAXPROCS=1"},
		Dir:         "/",
		Stdin:       in,
		Stdout:      outW,
		Stderr:      errs,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	}
	err = cmd.Start()
	outW.Close()
	if err != nil {
		return fmt.Errorf("start mounting child: %w", err)
	}
	started <- cmd.Process.Pid
	var a answer
	decodeErr := json.NewDecoder(io.LimitReader(out, 64<<10)).Decode(&a)
	waitErr := cmd.Wait()
	switch {
	case decodeErr == nil && a.Failed != nil:
		return a.Failed
	case decodeErr == nil:
		return nil
	case waitErr != nil:
		return fmt.Errorf("mounting child: %w: %s", waitErr, errs.text)
	default:
		return fmt.Errorf("mounting child gave no answer: %s", errs.text)
	}
}

// pipeWith returns the reading end of a pipe that yields data.
func pipeWith(data []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start mounting child: %w", err)
	}
	// More than a pipe holds must be written while the child reads; the goroutine ends when it has, or when the reader is gone.
	go func() {
		defer w.Close()
		_, _ = w.Write(data)
	}()
	return r, nil
}

// tail keeps the first bytes of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	if room := 1024 - len(t.text); room > 0 {
		t.text = append(t.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
