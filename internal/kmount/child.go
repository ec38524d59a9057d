package kmount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// answer is what the child sends on its standard output, a socket, together with the mount's descriptor unless it failed.
type answer struct {
	Failed  *Error  `json:",omitempty"`
	Backing Backing `json:",omitempty"`
}

// Init does the child's work and exits when this process was started by [Open]; otherwise it returns at once. Call it before anything
// else in main.
func Init() {
	if len(os.Args) != 1 || os.Args[0] != childName {
		return
	}
	if err := child(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", childName, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child() error {
	var spec EROFS
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	var a answer
	var rights []byte
	d, err := openMount(spec)
	if err == nil {
		rights, a.Backing = unix.UnixRights(d.fd), d.backing
	} else if !errors.As(err, &a.Failed) {
		return err
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return unix.Sendmsg(unix.Stdout, text, rights, nil, 0)
}

// inChild has a new process open the mount and returns it, or ctx's error once the child has been killed. Nothing of the mount is
// then left: as long as it is attached nowhere, it lives as long as its descriptor.
func inChild(ctx context.Context, spec EROFS) (*Detached, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if os.Args[0] == childName {
		return nil, errors.New("this is the mounting child itself: main does not call kmount.Init first")
	}
	input, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("describe the task to the mounting child: %w", err)
	}
	started := make(chan int, 1)
	done := make(chan result, 1)
	go func() { done <- runChild(input, started) }()
	select {
	case r := <-done:
		return r.mount, r.err
	case <-ctx.Done():
	}
	var pid int
	select {
	case r := <-done:
		return r.mount, r.err
	case pid = <-started:
	}
	// The pid cannot have been reused: the child is reaped by runChild, which has not reported.
	_ = unix.Kill(pid, unix.SIGKILL)
	select {
	case r := <-done:
		if r.err == nil {
			return r.mount, nil // it had finished before the signal
		}
		return nil, fmt.Errorf("child killed: %w", ctx.Err())
	case <-time.After(killGrace):
	}
	go func() { // whenever the kernel lets go of it
		if r := <-done; r.err == nil {
			_ = r.mount.Close()
		}
	}()
	return nil, fmt.Errorf("child %d is stuck in the kernel and left behind: %w", pid, ctx.Err())
}

// result is a mount, or why there is none.
type result struct {
	mount *Detached
	err   error
}

// runChild runs one child to its end. It stays on one thread because the death signal is tied to the thread that started the child.
func runChild(input []byte, started chan<- int) result {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	fail := func(what string, err error) result { return result{nil, fmt.Errorf("%s: %w", what, err)} }
	in, err := pipeWith(input)
	if err != nil {
		return result{nil, err}
	}
	defer in.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail("start mounting child", err)
	}
	defer unix.Close(pair[0])
	out := os.NewFile(uintptr(pair[1]), "answer")
	errs := &tail{}
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe", // still this program after an upgrade has replaced its file
		Args:        []string{childName},
		Env:         []string{"GOMAXPROCS=1"},
		Dir:         "/",
		Stdin:       in,
		Stdout:      out,
		Stderr:      errs,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	}
	err = cmd.Start()
	out.Close()
	if err != nil {
		return fail("start mounting child", err)
	}
	started <- cmd.Process.Pid
	mount, answerErr := receive(pair[0])
	waitErr := cmd.Wait()
	switch {
	case answerErr == nil:
		return result{mount, nil}
	case errors.As(answerErr, new(*Error)):
		return result{nil, answerErr}
	case waitErr != nil:
		return result{nil, fmt.Errorf("mounting child: %w: %s", waitErr, errs.text)}
	default:
		return result{nil, fmt.Errorf("mounting child: %w: %s", answerErr, errs.text)}
	}
}

// receive reads the child's answer.
func receive(socket int) (*Detached, error) {
	text, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(socket, text, oob, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, oobn, _, _, err = unix.Recvmsg(socket, text, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	if n == 0 {
		return nil, errors.New("it gave no answer")
	}
	var a answer
	if err := json.Unmarshal(text[:n], &a); err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	if a.Failed != nil {
		return nil, a.Failed
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	if len(messages) != 1 {
		return nil, errors.New("read its answer: the mount's descriptor did not come with it; are too many files open?")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(fmt.Errorf("read its answer: %d descriptors came with it", len(fds)), err)
	}
	return &Detached{fd: fds[0], backing: a.Backing}, nil
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
