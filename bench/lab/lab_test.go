package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServiceThatEndsEarlyShowsItsLog(t *testing.T) {
	s, err := StartService(Command(t.Context(), "sh", "-c", "echo no such port >&2; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Await(t.Context(), 10*time.Second, func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "no such port") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("await: %v; want the log and the exit status", err)
	}
}

func TestStopEndsAService(t *testing.T) {
	s, err := StartService(Command(t.Context(), "sleep", "60"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := s.cmd.Process.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after stop: %v, want %v", err, os.ErrProcessDone)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestCancelledCommandEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := Output(Command(ctx, "sleep", "60")); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("output returned %v after %v; want an error soon", err, time.Since(began))
	}
}

func TestPipelineReportsTheProgramThatFailed(t *testing.T) {
	for _, tc := range []struct{ name, first, second, want string }{
		{"both succeed", "echo x", "grep -q x", ""},
		{"first fails", "echo lost connection >&2; exit 1", "cat >/dev/null", "lost connection"},
		{"second fails", "yes", "echo disk full >&2; exit 2", "disk full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Pipeline(Command(t.Context(), "sh", "-c", tc.first), Command(t.Context(), "sh", "-c", tc.second))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("pipeline: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestTailKeepsTheEndOnly(t *testing.T) {
	var log tail
	for range 100 {
		if _, err := log.Write([]byte(strings.Repeat("x", 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := log.Write([]byte("the end")); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); len(got) != tailSize || !strings.HasSuffix(got, "the end") {
		t.Errorf("kept %d bytes ending in %q", len(got), got[len(got)-7:])
	}
}

func TestWarmNamesTheMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent")
	if err := Warm(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("warm: %v", err)
	}
}
