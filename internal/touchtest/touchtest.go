// Package touchtest has a process of its own touch known pages of files, for tests of what a recording sees.
//
// It knows files and pages, and nothing of who records. The process is the test binary, started anew: TestMain calls [Init] first. A process of its own is needed
// because a page fault stops all of a Go program's goroutines on that thread, and because recordings ask who it was.
package touchtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// How a page is touched.
const (
	Read   = "read"   // pread(2) of the range
	Splice = "splice" // splice(2) of the range into a pipe
	Send   = "send"   // sendfile(2) of the range into /dev/null
	Map    = "map"    // one byte of each page of the range, through a shared mapping
	Random = "random" // the same, after madvise(MADV_RANDOM)
	Exec   = "exec"   // run the file with the argument "true", and wait for its end
)

// Op is one thing to do to a file.
type Op struct {
	How  string
	Path string
	Off  int64 // bytes
	Len  int64 // bytes; with 0 all of the file
}

// initEnv holds, in the child, the ops as JSON; "-" says that they come on standard input.
const initEnv = "PAGEIN_TOUCHTEST"

// Init does what a parent asks for, and does not return then.
func Init() {
	if os.Getenv(initEnv) == "" {
		return
	}
	_ = os.Unsetenv(initEnv)
	var ops []Op
	err := json.NewDecoder(os.Stdin).Decode(&ops)
	for i := 0; err == nil && i < len(ops); i++ {
		err = ops[i].do()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Process is a process that waits to be told what to do.
type Process struct {
	t   testing.TB
	cmd *exec.Cmd
	in  *os.File
}

// Start starts a process that has touched nothing yet.
func Start(t testing.TB) *Process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), initEnv+"=-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{t, cmd, w}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil { // Do was not called
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		_ = w.Close()
	})
	return p
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Do does the ops in their order, and waits for the end of the process.
func (p *Process) Do(ops ...Op) {
	p.t.Helper()
	if err := json.NewEncoder(p.in).Encode(ops); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("touch: %v", err)
	}
}

// Do starts a process that does the ops, and waits for its end.
func Do(t testing.TB, ops ...Op) {
	t.Helper()
	Start(t).Do(ops...)
}
