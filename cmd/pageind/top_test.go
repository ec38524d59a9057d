package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// screen is a terminal, and all that was written to it.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

// newScreen returns one, and the file that programs write to, which the caller closes.
func newScreen(t *testing.T) (*screen, *os.File) {
	t.Helper()
	master, terminal := newTerminal(t)
	s, over := &screen{}, make(chan struct{})
	go func() {
		defer close(over)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil { // nobody has the terminal open any more
				return
			}
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		<-over
		_ = master.Close()
	})
	return s, terminal
}

// newTerminal returns a terminal's two ends, which the caller closes: the one of who looks at it, and the one of programs.
func newTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.Feature(t, err == nil, "pseudo-terminals (/dev/ptmx)")
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

// pictures are what was shown, one after the other: each begins with the sequences that go to the top and erase what was there.
func (s *screen) pictures() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(s.text.String(), "\x1b[H\x1b[J")[1:]
}

// TestTopShowsOnATerminalWhatReadersWaitFor has files read while pagein top runs.
func TestTopShowsOnATerminalWhatReadersWaitFor(t *testing.T) {
	l := newLab(t)
	l.start()
	ref := l.layout(l.bigFiles(enoughFiles...))
	target := l.mount(ref, "x")
	s, terminal := newScreen(t)
	cmd := exec.Command(filepath.Join(programs, "pagein"), "--address", l.socket(), "top", "--interval", "200ms")
	cmd.Stdout, cmd.Stderr = terminal, terminal
	err := cmd.Start()
	_ = terminal.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	l.waitFor("a first picture", func() bool { return len(s.pictures()) > 0 })
	unread, file := enoughFiles, regexp.MustCompile(`s +\d+ +\d+ +[0-9a-f]{12} +/[a-p]\r\n`)
	l.waitFor("a picture of a file that was waited for, and another one", func() bool {
		if len(unread) > 0 {
			l.read(target, unread[0])
			unread = unread[1:]
		}
		shown := s.pictures()
		return file.MatchString(strings.Join(shown[:len(shown)-1], ""))
	})
	if last := s.pictures()[0]; !strings.HasPrefix(last, "pageind") || !strings.Contains(last, ref) {
		t.Errorf("shown: %q", last)
	}
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("pagein top ended with %v: %q", err, s.pictures())
	}
}
