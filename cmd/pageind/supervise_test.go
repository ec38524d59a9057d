package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTheSupervisorStartsTheDaemonAgain kills supervised daemons under readers; the supervisor's end is theirs, and mounts stay.
func TestTheSupervisorStartsTheDaemonAgain(t *testing.T) {
	l := newLab(t)
	tree := l.sources(1, 4)[0]
	l.start("--supervise")
	target := l.mount(l.layout(tree), "a")
	reads := startVerifying(t, tree, target, 4)
	for range 5 {
		old := l.status().PID
		if old == l.daemon.Pid {
			t.Fatal("the supervisor serves")
		}
		if err := unix.Kill(old, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		l.waitFor("another daemon", func() bool {
			out, err := l.try("status")
			return err == nil && out != "" && l.status().PID != old
		})
	}
	if r := reads.end(); r.wrong > 0 || len(r.failed) > 0 || r.reads == 0 {
		t.Errorf("of %d bytes %d are wrong; failed reads: %v", r.bytes, r.wrong, r.failed)
	}
	l.stop(unix.SIGTERM) // and it reports how it ended
	if _, err := l.try("status"); err == nil {
		t.Error("a daemon outlived its supervisor")
	}
	l.start("--supervise")
	l.readAll(tree, target)
}

// TestAKilledSupervisorTakesItsDaemonAlong, which would keep the next one from its place otherwise.
func TestAKilledSupervisorTakesItsDaemonAlong(t *testing.T) {
	l := newLab(t)
	tree := l.sources(1, 4)[0]
	l.start("--supervise")
	target := l.mount(l.layout(tree), "a")
	daemon := l.status().PID
	l.stop(unix.SIGKILL)
	l.waitFor("the daemon's end", func() bool { return errors.Is(unix.Kill(daemon, 0), unix.ESRCH) })
	l.start("--supervise")
	l.readAll(tree, target)
}

// TestTheSupervisorDoesNotInsistOnAMistake starts what cannot be up.
func TestTheSupervisorDoesNotInsistOnAMistake(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--prefetch", "some"}, exitUsage},
		{[]string{"--root", "/dev/null/x"}, exitFailure},
	} {
		args := append([]string{"--supervise", "--config", os.DevNull, "--root", l.root, "--run", l.dir + "/run", "--address", l.socket()}, c.args...)
		cmd := exec.Command(filepath.Join(programs, "pageind"), args...)
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != c.want {
			t.Errorf("%v: status %d, want %s: %s", c.args, code, strconv.Itoa(c.want), strings.TrimSpace(string(out)))
		}
	}
}
