package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// endWithin is how long a reader may take to end when it is told to or killed while a healthy daemon serves: more is stuck.
	endWithin = time.Minute
	// maxLine bounds what a reader says at a time, in bytes.
	maxLine = 16 << 20
)

// reading is a reader at work.
type reading struct {
	at     *slot
	wait   bool // for as long as it takes, by its image's policy
	cmd    *exec.Cmd
	stdin  io.Closer
	done   chan struct{} // closed when it has ended and all that it said is judged
	killed bool          // by us
}

// read starts a reader of what is mounted at sl.
func (s *soak) read(sl *slot, seed uint64, whole bool) (*reading, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &reading{at: sl, wait: sl.wait, cmd: exec.Command(self, readerCommand), done: make(chan struct{})} // #nosec G204 -- ourselves
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for us to handle
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a reader: %w", err)
	}
	r.stdin = stdin
	if err := json.NewEncoder(stdin).Encode(readerTask{Tree: s.images[sl.image].tree, Target: sl.target, Seed: seed, Whole: whole}); err != nil {
		return nil, errors.Join(fmt.Errorf("start a reader: %w", err), r.cmd.Process.Kill(), r.cmd.Wait())
	}
	go func() {
		defer close(r.done)
		s.listen(r, stdout)
		if err := r.cmd.Wait(); err != nil && !s.wasKilled(r) {
			s.judge.fail("a reader of %s ended with %v", sl.target, err)
		}
	}()
	return r, nil
}

// listen judges what a reader says until it has said all.
func (s *soak) listen(r *reading, out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var report readerReport
		if err := json.Unmarshal(lines.Bytes(), &report); err != nil {
			if !s.wasKilled(r) { // in the middle of a word
				s.judge.fail("a reader of %s says %q: %v", r.at.target, lines.Text(), err)
			}
			return
		}
		s.judge.heard(r, report)
	}
}

func (s *soak) wasKilled(r *reading) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.killed
}

// tell asks a reader to end.
func (r *reading) tell() { _ = r.stdin.Close() } // it may have ended

// kill ends a reader in the middle of whatever it does.
func (s *soak) kill(r *reading) {
	s.mu.Lock()
	r.killed = true
	s.mu.Unlock()
	_ = r.cmd.Process.Kill() // it may have ended
}

// await waits until a reader is gone, which it must be before long.
func (s *soak) await(r *reading) {
	select {
	case <-r.done:
	case <-time.After(endWithin):
		s.judge.fail("a reader of %s (pid %d) is stuck", r.at.target, r.cmd.Process.Pid)
	}
}
