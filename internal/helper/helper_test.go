package helper

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNothingOfAProgramOutlivesItsAnswer has programs that leave a child behind, with their pipes or without, and one that hangs with a child.
func TestNothingOfAProgramOutlivesItsAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		script   string
		patience time.Duration
		answers  bool
	}{
		"with its pipes": {"sleep 600 & echo $!", time.Minute, true},
		"without":        {"sleep 600 >/dev/null 2>&1 </dev/null & echo $!", time.Minute, true},
		"which hangs":    {"sleep 600 & echo $!; wait", time.Second / 2, false},
	} {
		got, err := Ask(t.Context(), Program{Path: "/bin/sh", Args: []string{"-c", c.script}}, nil, c.patience)
		if (err == nil) != c.answers {
			t.Errorf("%s: %v", name, err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(got.Out)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for alive(t, child) {
			if time.Now().After(deadline) {
				t.Errorf("%s: process %d lives", name, child)
				_ = unix.Kill(child, unix.SIGKILL)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// alive reports whether a process runs: one that nobody has waited for yet does not.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(state, "Z")
}
