package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestADaemonOutlivesItsTerminal closes the terminal from which a supervisor was started.
func TestADaemonOutlivesItsTerminal(t *testing.T) {
	l := newLab(t)
	tree := l.sources(1, 4)[0]
	ref := l.layout(tree)
	master, terminal := newTerminal(t)
	cmd := l.command("--supervise")
	log, err := os.Create(l.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stderr = terminal, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	l.run(cmd)
	_, _ = terminal.Close(), log.Close()
	l.serving()
	target := l.mount(ref, "a")
	old := l.status().PID
	if err := master.Close(); err != nil { // the kernel tells the leader of the session, which is the supervisor
		t.Fatal(err)
	}
	if err := unix.Kill(old, unix.SIGHUP); err != nil { // as a shell does to its jobs
		t.Fatal(err)
	}
	if now := l.status().PID; now != old {
		t.Fatalf("daemon %d has become %d", old, now)
	}
	l.readAll(tree, target)
	l.stop(unix.SIGTERM)
	if want := `msg=stopping reason="terminated signal received"`; !strings.Contains(l.said(), want) {
		t.Errorf("the end is not told with its signal, %s", want)
	}
}

// TestADaemonOutlivesTheReaderOfItsLog closes the pipe that a supervisor and its daemon write to.
func TestADaemonOutlivesTheReaderOfItsLog(t *testing.T) {
	l := newLab(t)
	tree := l.sources(1, 4)[0]
	reader, log, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := l.command("--supervise")
	cmd.Stderr = log
	l.run(cmd)
	_, _ = log.Close(), reader.Close()
	l.serving()
	target := l.mount(l.layout(tree), "a")
	old := l.status().PID
	if err := unix.Kill(old, unix.SIGKILL); err != nil { // of which the supervisor has something to say
		t.Fatal(err)
	}
	l.waitFor("another daemon", func() bool {
		_, err := l.try("status")
		return err == nil && l.status().PID != old
	})
	l.readAll(tree, target)
}
