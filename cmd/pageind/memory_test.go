package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pagein/pagein/internal/require"
)

// leastMemory is the limit on the daemon's memory that docs/operations.md names as the lowest, in bytes. Its page cache counts too, but can be taken back.
const leastMemory = 64 << 20

// TestTheDaemonLivesWithLittleMemory has an image of 192 MiB read and fetched ahead while the daemon's control group may have leastMemory.
func TestTheDaemonLivesWithLittleMemory(t *testing.T) {
	group := newMemoryGroup(t, leastMemory) // before the lab, so that it goes when the lab's processes have
	l := newLab(t)
	server := httptest.NewServer(registry.New(registry.Logger(quiet())))
	t.Cleanup(server.Close)
	tree := l.sources(1, 64)[0]
	ref := strings.TrimPrefix(server.URL, "http://") + "/app:1"
	l.pagein("convert", "dir:"+tree, ref)
	l.launch()
	group.add(l.daemon.Pid)
	l.serving()
	target := l.target("a")
	l.pagein("mount", "--prefetch", "all", ref, target)
	v := startVerifying(t, tree, target, 16)
	l.waitFor("readers to have read and everything to be here", func() bool {
		s := l.status().Images[0]
		return s.PresentBytes == s.TotalBytes
	})
	time.Sleep(time.Second)
	r := v.end()
	if r.wrong > 0 || len(r.failed) > 0 {
		t.Errorf("of %d bytes %d are wrong; failed reads: %v", r.bytes, r.wrong, r.failed)
	}
	if n := group.killed(); n > 0 {
		t.Errorf("%d processes were killed for want of memory", n)
	}
	t.Logf("measured: with %d MiB: %d bytes verified, %d wrong, pageind had up to %d MiB resident", leastMemory>>20, r.bytes, r.wrong, peakMemory(t, l.daemon.Pid)>>20)
}

// memoryGroup is a control group with a limit on memory, of cgroup v2 or v1.
type memoryGroup struct {
	testing.TB
	dir    string
	events string // the file that counts kills
}

func newMemoryGroup(t testing.TB, limit int64) *memoryGroup {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("pagein-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		g := &memoryGroup{TB: t, dir: filepath.Join(f[1], name)}
		var file string
		switch {
		case f[2] == "cgroup2":
			if controllers, err := os.ReadFile(filepath.Join(f[1], "cgroup.controllers")); err != nil || !strings.Contains(string(controllers), "memory") {
				continue
			}
			if err := os.WriteFile(filepath.Join(f[1], "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
				continue
			}
			file, g.events = "memory.max", "memory.events"
		case f[2] == "cgroup" && strings.Contains(","+f[3]+",", ",memory,"):
			file, g.events = "memory.limit_in_bytes", "memory.oom_control"
		default:
			continue
		}
		if err := errors.Join(os.Mkdir(g.dir, 0o755), os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(limit, 10)), 0)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for range 100 { // a process may be about to end
				if err = os.Remove(g.dir); err == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Error(err)
		})
		return g
	}
	require.Feature(t, false, "a memory controller (cgroup)")
	return nil
}

func (g *memoryGroup) add(pid int) {
	g.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		g.Fatal(err)
	}
}

// killed counts the processes that were killed for want of memory.
func (g *memoryGroup) killed() int {
	g.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, g.events))
	if err != nil {
		g.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "oom_kill" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				g.Fatal(err)
			}
			return n
		}
	}
	g.Fatalf("%s has no oom_kill: %s", g.events, b)
	return 0
}
