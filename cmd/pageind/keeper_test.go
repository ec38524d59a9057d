package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/node/control"
)

// TestTermLeavesMountsToASuccessor stops the daemon; a reader waits until there is another.
func TestTermLeavesMountsToASuccessor(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.smallTree(3)
	l.start()
	target := l.mount(l.layout(tree), "a")
	l.stop(unix.SIGTERM)
	result := make(chan error, 1)
	go func() {
		diffs, err := treetest.Diff(tree, target, treetest.Options{Readers: 4})
		if len(diffs) > 0 {
			err = errors.Join(err, errors.New(strings.Join(diffs, "\n")))
		}
		result <- err
	}()
	select {
	case err := <-result:
		t.Fatalf("reading without a daemon ended with %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	l.start()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

// TestASuccessorKnowsWhatIsPresent has the daemon killed when all was read: nothing has to be asked for again to know that.
func TestASuccessorKnowsWhatIsPresent(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.bigFiles("one", "two")
	l.start()
	l.readAll(tree, l.mount(l.layout(tree), "a"))
	before := l.idle().Images[0]
	l.stop(unix.SIGKILL)
	l.start()
	l.waitFor("the mount to be adopted", func() bool { return len(l.status().Images) == 1 })
	if after := l.status().Images[0]; before.PresentBytes == 0 || after.PresentBytes != before.PresentBytes {
		t.Errorf("%d bytes were present, and after a restart %d of %d", before.PresentBytes, after.PresentBytes, after.TotalBytes)
	}
}

// TestUnmountOnExitLeavesNothing asks the daemon to clean up when it goes.
func TestUnmountOnExitLeavesNothing(t *testing.T) {
	beside(t)
	l := newLab(t)
	l.start("--unmount-on-exit")
	target := l.mount(l.layout(l.smallTree(1)), "a")
	l.stop(unix.SIGTERM)
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
		t.Errorf("%s shows %d entries, %v", target, len(entries), err)
	}
	l.waitFor("the keeper to end", func() bool { return len(l.keepers()) == 0 })
}

// TestTheKeeperEndsWithTheLastMount takes the mount off while no daemon runs.
func TestTheKeeperEndsWithTheLastMount(t *testing.T) {
	beside(t)
	l := newLab(t)
	l.start()
	target := l.mount(l.layout(l.smallTree(1)), "a")
	l.stop(unix.SIGKILL)
	time.Sleep(1500 * time.Millisecond)
	if len(l.keepers()) != 1 {
		t.Fatal("the keeper ended while its mount lives")
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	l.waitFor("the keeper to end", func() bool { return len(l.keepers()) == 0 })
}

// TestWhatIsUnmountedWithoutADaemonIsLetGo takes one of two mounts off while no daemon runs: its descriptors are given up, the other mount lives on.
func TestWhatIsUnmountedWithoutADaemonIsLetGo(t *testing.T) {
	beside(t)
	l := newLab(t)
	one, two := l.bigFiles("f"), l.smallTree(1)
	l.start()
	gone, stays := l.mount(l.layout(one), "a"), l.mount(l.layout(two), "b")
	l.stop(unix.SIGTERM)
	if err := unix.Unmount(gone, 0); err != nil {
		t.Fatal(err)
	}
	l.start()
	if s := l.status(); len(s.Images) != 1 {
		t.Errorf("status shows %+v", s.Images)
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", l.keepers()[0]))
	if err != nil {
		t.Fatal(err)
	}
	blobs := 0
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err == nil && strings.Contains(name, "/blobs/") {
			blobs++
		}
	}
	if blobs > 1 {
		t.Errorf("the keeper still holds %d blobs", blobs)
	}
	l.readAll(two, stays)
}

// TestADeadKeeperIsReplaced kills the keeper, and then the daemon: the mount lives on.
func TestADeadKeeperIsReplaced(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.smallTree(1)
	l.start("--metrics-address", "127.0.0.1:0")
	target := l.mount(l.layout(tree), "a")
	old := l.keepers()
	if len(old) != 1 {
		t.Fatalf("keepers: %v", old)
	}
	if err := unix.Kill(old[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.waitFor("another keeper", func() bool { return strings.Contains(l.said(), "there is a keeper again") })
	l.waitFor("the keeper to count", func() bool { return strings.Contains(l.metrics(), "pagein_keeper_present 1\n") })
	l.stop(unix.SIGKILL)
	l.start()
	l.readAll(tree, target)
}

// TestAnAbsentKeeperIsTold has nobody start another one.
func TestAnAbsentKeeperIsTold(t *testing.T) {
	beside(t)
	l := newLab(t)
	socket := filepath.Join(l.dir, "run", "keeper.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	begin := func() {
		t.Helper()
		cmd := exec.Command(filepath.Join(programs, "pagein-keeper"), "--socket", socket, "--stay")
		cmd.Args[0] = "pagein-keeper"
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		l.waitFor("the keeper's socket", func() bool {
			s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(s)
			return unix.Connect(s, &unix.SockaddrUnix{Name: socket}) == nil
		})
	}
	begin()
	l.start("--external-keeper", "--metrics-address", "127.0.0.1:0")
	l.measures("pagein_keeper_present 1\n")
	if err := unix.Kill(l.keepers()[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.waitFor("the status to tell", func() bool { return strings.Contains(l.status().Problem, "the keeper has died") })
	l.measures("pagein_keeper_present 0\n")
	begin()
	l.waitFor("the status to tell no more", func() bool { return l.status().Problem == "" })
	l.measures("pagein_keeper_present 1\n")
}

func TestTheKeeperTellsItsVersion(t *testing.T) {
	out, err := exec.Command(filepath.Join(programs, "pagein-keeper"), "--version").Output()
	if err != nil || string(out) != "pagein-keeper version unknown\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// TestAMountThatNobodyGuardedIsTakenAway kills the keeper and the daemon at once: nobody may read such a mount any more.
func TestAMountThatNobodyGuardedIsTakenAway(t *testing.T) {
	beside(t)
	l := newLab(t)
	l.start()
	target := l.mount(l.layout(l.smallTree(1)), "a")
	if err := l.daemon.Signal(unix.SIGSTOP); err != nil { // it must not get to replace the keeper
		t.Fatal(err)
	}
	if err := unix.Kill(l.keepers()[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.stop(unix.SIGKILL)
	l.start("--metrics-address", "127.0.0.1:0")
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
		t.Errorf("%s shows %d entries, %v", target, len(entries), err)
	}
	l.measures("pagein_mounts_taken_away_total 1\n")
}

// TestKillingTheDaemonWhileItMounts leaves no mount that nobody serves. The kills come later and later until one finds the mount made, and then at random before that: so they hit all
// stages of it, however long they take here.
func TestKillingTheDaemonWhileItMounts(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("f")
	l.start()
	ref := l.layout(tree)
	target := l.target("a")
	// round kills the daemon that long after it was asked, and reports whether its successor has the mount.
	round := func(after time.Duration) bool {
		done := make(chan error, 1)
		go func() {
			_, err := l.try("mount", ref, target) // fails as a rule: the daemon was gone before it could answer
			done <- err
		}()
		time.Sleep(after)
		l.stop(unix.SIGKILL)
		err := <-done
		l.start()
		entries, readErr := os.ReadDir(target)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if len(entries) == 0 {
			if err == nil {
				t.Fatalf("killed after %v: what was mounted is gone", after)
			}
			return false
		}
		if diffs, err := treetest.Diff(tree, target, treetest.Options{}); err != nil || len(diffs) > 0 {
			t.Fatalf("killed after %v: %v, %v", after, diffs, err)
		}
		l.pagein("umount", target)
		return true
	}
	rounds, mounted := 0, 0
	most := 4 * time.Millisecond
	for ; mounted == 0; rounds++ {
		if most *= 2; most > time.Minute {
			t.Fatal("it is never mounted")
		}
		if round(most) {
			mounted++
		}
	}
	for ; rounds < 14; rounds++ {
		if round(rand.N(most)) {
			mounted++
		}
	}
	t.Logf("%d of %d times it was mounted by then, with kills up to %v after the request", mounted, rounds, most)
	l.pagein("mount", ref, target)
	l.readAll(tree, target)
}

// TestAMountThatCannotBeServedIsToldAndTakenOff has a successor that lacks what it needs to serve a mount: the status says so for as long as it is there.
func TestAMountThatCannotBeServedIsToldAndTakenOff(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	tree := l.bigFiles("f")
	l.start()
	ref := l.layout(tree)
	target := l.mount(ref, "a")
	l.stop(unix.SIGKILL)
	if err := os.RemoveAll(filepath.Join(l.root, "maps")); err != nil {
		t.Fatal(err)
	}
	l.start()
	s := l.status()
	if len(s.Images) != 1 || s.Images[0].State != control.Lost || !slices.Equal(s.Images[0].Targets, []string{target}) || !strings.Contains(s.Images[0].Problem, "map of blob") {
		t.Errorf("status shows %+v", s.Images)
	}
	l.pagein("umount", target)
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 0 {
		t.Errorf("%s shows %d entries, %v", target, len(entries), err)
	}
	l.waitFor("the image to be forgotten", func() bool { return len(l.status().Images) == 0 })
	l.pagein("mount", ref, target)
	l.readAll(tree, target)
}
