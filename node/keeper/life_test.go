package keeper

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/kmount"
)

func TestOneKeeperResultsFromManyStarts(t *testing.T) {
	opt := newOptions(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, err := Start(t.Context(), opt)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
		})
	}
	all.Wait()
	pid := keeperPid(opt.Socket)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); pid == 0 || err != nil {
		t.Fatalf("keeper %d: %v", pid, err)
	}
	st, err := unix.Getsid(pid)
	if err != nil || st != pid {
		t.Errorf("keeper %d is in session %d (%v), want its own", pid, st, err)
	}
}

// Keepers end at the very moment when others count on them: nobody may be left without one.
func TestStartsSucceedWhileKeepersEnd(t *testing.T) {
	opt := newOptions(t)
	var all sync.WaitGroup
	for i := range 4 {
		fd := memfd(t, "x")
		all.Go(func() {
			for round := range 20 {
				c, err := Start(t.Context(), opt)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				name := fmt.Sprint("x", i)
				if err := errors.Join(c.Hold(name, fd), c.Release(name)); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				c.Close()
			}
		})
	}
	all.Wait()
	waitGone(t, opt.Socket)
}

func TestKeeperEndsWhenNothingNeedsIt(t *testing.T) {
	t.Run("it holds nothing", func(t *testing.T) {
		t.Parallel()
		opt := newOptions(t)
		c := start(t, opt)
		hold(t, c, "x", memfd(t, "x"))
		if err := c.Release("x"); err != nil {
			t.Fatal(err)
		}
		c.Close()
		waitGone(t, opt.Socket)
	})
	t.Run("no watched mount is left", func(t *testing.T) {
		t.Parallel()
		opt := newOptions(t)
		target := mountPoints(t, 1)[0]
		c := start(t, opt)
		hold(t, c, MountsName, watchedMount(t, target))
		hold(t, c, "x", memfd(t, "x"))
		pid := keeperPid(opt.Socket)
		c.Close()
		for _, signal := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
			if err := unix.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * tick / 2)
		if keeperPid(opt.Socket) != pid {
			t.Fatal("the keeper ended although a mount is left")
		}
		if err := kmount.Unmount(target, 0); err != nil {
			t.Fatal(err)
		}
		waitGone(t, opt.Socket)
		if log, _ := os.ReadFile(opt.Log); !strings.Contains(string(log), "told to stop, but mounts need what is held") {
			t.Errorf("log: %s", log)
		}
	})
	t.Run("not while a daemon is attached", func(t *testing.T) {
		t.Parallel()
		opt := newOptions(t)
		start(t, opt)
		time.Sleep(3 * tick / 2)
		if keeperPid(opt.Socket) == 0 {
			t.Error("the keeper ended")
		}
	})
	t.Run("it holds what nobody can judge", func(t *testing.T) {
		t.Parallel()
		opt := newOptions(t)
		c := start(t, opt)
		hold(t, c, "x", memfd(t, "x"))
		c.Close()
		time.Sleep(3 * tick / 2)
		if pid := keeperPid(opt.Socket); pid == 0 || unix.Kill(pid, unix.SIGTERM) != nil {
			t.Fatal("the keeper ended")
		}
		time.Sleep(tick / 2)
		if keeperPid(opt.Socket) == 0 {
			t.Error("the keeper ended at SIGTERM")
		}
	})
	t.Run("told to stop", func(t *testing.T) {
		t.Parallel()
		opt := newOptions(t)
		start(t, opt)
		if err := unix.Kill(keeperPid(opt.Socket), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		waitGone(t, opt.Socket)
	})
}

func TestLostKeeperIsNoticedAndRestored(t *testing.T) {
	opt := newOptions(t)
	c := start(t, opt)
	hold(t, c, "a", memfd(t, "a"))
	hold(t, c, "b", memfd(t, "b"))
	hold(t, c, "gone", memfd(t, "gone"))
	if err := c.Release("gone"); err != nil {
		t.Fatal(err)
	}
	if err := c.Restore(t.Context()); err != nil {
		t.Errorf("restore of a live keeper: %v", err)
	}
	for range 2 {
		lost := c.Lost()
		if err := unix.Kill(keeperPid(opt.Socket), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {
		case <-lost:
		case <-time.After(await.Patience):
			t.Fatal("the keeper's death was not noticed")
		}
		if err := c.Hold("c", memfd(t, "c")); err == nil {
			t.Error("held by a dead keeper")
		}
		if err := c.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	fds := take(t, opt)
	if len(fds) != 2 || content(t, fds["a"]) != "a" || content(t, fds["b"]) != "b" {
		t.Errorf("restored: %v", fds)
	}
}

func TestTakenDescriptorsAreRestoredToo(t *testing.T) {
	opt := newOptions(t)
	c := start(t, opt)
	hold(t, c, "a", memfd(t, "a"))
	c.Close()
	second := start(t, opt)
	fds := second.Take()
	t.Cleanup(func() { closeAll(fds) })
	lost := second.Lost()
	if err := unix.Kill(keeperPid(opt.Socket), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-lost
	if err := second.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.Close()
	if again := take(t, opt); len(again) != 1 || content(t, again["a"]) != "a" {
		t.Errorf("restored: %v", again)
	}
}

func TestNoKeeperIsAClearError(t *testing.T) {
	opt := newOptions(t)
	none := opt
	none.Binary = ""
	if _, err := Start(t.Context(), none); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), opt.Socket) {
		t.Errorf("without a binary: %v", err)
	}
	bad := opt
	bad.Binary = "/nonexistent/keeper"
	if _, err := Start(t.Context(), bad); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), bad.Binary) {
		t.Errorf("with a missing binary: %v", err)
	}
	bad.Binary = "/bin/true"
	if _, err := Start(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "ended without a word") {
		t.Errorf("with a wrong binary: %v", err)
	}
	long := opt
	long.Socket = "/" + strings.Repeat("x", 200)
	if _, err := Start(t.Context(), long); err == nil || !strings.Contains(err.Error(), "201 bytes") {
		t.Errorf("with a long path: %v", err)
	}
	file := opt
	file.Socket += "-file"
	if err := os.WriteFile(file.Socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), file); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("in place of a file: %v", err)
	}
	unwritable := opt
	unwritable.Socket = "/proc/keeper"
	if _, err := Start(t.Context(), unwritable); err == nil || !strings.Contains(err.Error(), "/proc/keeper") {
		t.Errorf("where no socket can be: %v", err)
	}
}
