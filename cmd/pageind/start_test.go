package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// TestReadersAreServedAtOnceAfterAStart has 50 images mounted and a reader waiting for a daemon, and tells how long it waits after one was started: by then all that
// was mounted is served again.
func TestReadersAreServedAtOnceAfterAStart(t *testing.T) {
	l := newLab(t)
	images := 50
	if os.Getenv(require.GuestEnv) != "" {
		images = 5 // emulated
	}
	trees := l.sources(images, 1)
	l.start()
	var targets []string
	for i, tree := range trees {
		targets = append(targets, l.mount(l.layout(tree), strconv.Itoa(i)))
	}
	var waits []time.Duration
	for i := range min(images, 10) {
		l.stop(unix.SIGKILL)
		cat := exec.Command("cat", filepath.Join(targets[i], "0"))
		var got bytes.Buffer
		cat.Stdout = &got
		if err := cat.Start(); err != nil {
			t.Fatal(err)
		}
		l.waitFor("the reader to wait", func() bool { return asleep(cat.Process.Pid) })
		began := time.Now()
		l.launch()
		if err := cat.Wait(); err != nil {
			t.Error(err)
		}
		waits = append(waits, time.Since(began))
		if want, err := os.ReadFile(filepath.Join(trees[i], "0")); err != nil || !bytes.Equal(want, got.Bytes()) {
			t.Errorf("wrong bytes, or %v", err)
		}
		l.serving()
	}
	slices.Sort(waits)
	served := servedAfter(l.said(), images)
	if len(served) != len(waits) {
		t.Fatalf("of %d starts %d say that all images are served", len(waits), len(served))
	}
	t.Logf("from the start of pageind until a waiting reader of 3 MiB has them, with %d images: p50 %v, max %v; all were served after p50 %v, max %v",
		images, waits[len(waits)/2], waits[len(waits)-1], served[len(served)/2], served[len(served)-1])
}

// TestANamedTransportNeedsNoSpaceToStart starts a daemon on a full disk, on which the transport that it is told to use cannot be probed.
func TestANamedTransportNeedsNoSpaceToStart(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	tree := l.bigFiles("f")
	ref := l.layout(tree)
	l.smallDisk()
	l.startWith("cache-reserve = '0'\n")
	l.stop(unix.SIGTERM)
	filler := l.fillDisk()
	l.startWith("cache-reserve = '0'\ntransport = 'file'\n")
	if _, err := l.try("mount", ref, l.target("a")); err == nil {
		t.Error("a mount without any space succeeded")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.readAll(tree, l.mount(ref, "b"))
}

// asleep says whether a process sleeps in a read that the daemon must answer.
func asleep(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/wchan")
	return err == nil && len(b) > 1
}

// servedAfter is how long each start with that many images took by what daemons say until they served them, in ascending order.
func servedAfter(said string, images int) (all []time.Duration) {
	for line := range strings.Lines(said) {
		if !strings.Contains(line, `"serving what was mounted"`) || !strings.Contains(line, fmt.Sprintf("images=%d ", images)) {
			continue
		}
		_, after, _ := strings.Cut(strings.TrimSpace(line), " after=")
		if d, err := time.ParseDuration(after); err == nil {
			all = append(all, d)
		}
	}
	slices.Sort(all)
	return all
}
