package main

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
)

// mostMemory is what pageind may have resident under the kill test, in bytes.
const mostMemory = 100 << 20

// kills is how many times to kill the daemon: PAGEIN_KILLS, or 200, or as many as an emulated machine gets through in some three minutes.
func kills(t testing.TB) int {
	if v := os.Getenv("PAGEIN_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			t.Fatalf("PAGEIN_KILLS=%q is no number of kills", v)
		}
		return n
	}
	if os.Getenv(require.GuestEnv) != "" {
		return 12
	}
	return 200
}

// TestKillingTheDaemonHarmsNoReader kills the daemon at random moments, those included at which it takes up what the last one left, under 16 readers that compare all
// they read with the source. The registry is slow, so that there is something missing to the end.
func TestKillingTheDaemonHarmsNoReader(t *testing.T) {
	l := newLab(t)
	files, bandwidth, life := 64, 12<<20, 150*time.Millisecond
	if os.Getenv(require.GuestEnv) != "" {
		files, bandwidth, life = 16, 512<<10, time.Second // emulated
	}
	server := httptest.NewServer(throttled(registry.New(registry.Logger(quiet())), bandwidth))
	t.Cleanup(server.Close)
	tree := l.sources(1, files)[0]
	ref := strings.TrimPrefix(server.URL, "http://") + "/app:1"
	l.pagein("convert", "dir:"+tree, ref)
	l.start()
	target := l.mount(ref, "a")
	// What each process has open with nothing mounted, once a transport is in use: some descriptors are opened with the first mount and kept, such as /dev/cachefiles.
	l.pagein("umount", target)
	idleFDs, keeperFDs := l.settled()
	l.pagein("mount", ref, target)

	v := startVerifying(t, tree, target, 16)
	most, want := int64(0), kills(t)
	for i := range want {
		if i%2 == 0 { // else in the middle of a start, as often as not
			v.awaitAnswer(10 * time.Second)
		}
		if i%8 == 0 {
			l.serving()
			erofstest.DropCaches(t)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(life))))
		most = max(most, peakMemory(t, l.daemon.Pid))
		at := time.Now()
		l.stop(unix.SIGKILL)
		v.killed(at)
		l.launch()
	}
	l.serving()
	r := v.end()
	most = max(most, peakMemory(t, l.daemon.Pid))
	missing := l.status().Images[0]
	t.Logf("measured: %d kills; %d bytes verified in %d reads; %d wrong bytes, of them %d in pages of zeros; %d reads failed; from a kill to the next read that the daemon answered: p50 %v, p99 %v, max %v; pageind had up to %d MiB resident, its keeper %d MiB; %d of %d bytes had arrived in the end",
		want, r.bytes, r.reads, r.wrong, r.zeros, len(r.failed), quantile(r.pauses, 50), quantile(r.pauses, 99), quantile(r.pauses, 100), most>>20,
		peakMemory(t, l.keepers()[0])>>20, missing.PresentBytes, missing.TotalBytes)
	if r.wrong > 0 || r.zeros > 0 {
		t.Errorf("%d wrong bytes", r.wrong)
	}
	for _, err := range r.failed[:min(len(r.failed), 5)] {
		t.Error(err)
	}
	if len(r.pauses) < want/8 {
		t.Errorf("after %d of %d kills a daemon answered: that is no test", len(r.pauses), want)
	}
	if most > mostMemory {
		t.Errorf("pageind had %d bytes resident, more than %d", most, mostMemory)
	}
	// Nothing is left of it when it is unmounted.
	if err := unix.Unmount(target, 0); err != nil {
		t.Errorf("the mount cannot be taken off: %v", err)
	}
	daemon, keeper := l.settled()
	if len(daemon) > len(idleFDs) {
		t.Errorf("pageind has open %q, at first %q", daemon, idleFDs)
	}
	if len(keeper) > len(keeperFDs) {
		t.Errorf("the keeper has open %q, at first %q", keeper, keeperFDs)
	}
	if n := l.marks(); n > 0 {
		t.Errorf("%d marks are left", n)
	}
}

// settled waits until the daemon has forgotten all images and returns what it and its keeper have open for good.
func (l *lab) settled() (daemon, keeper []string) {
	l.Helper()
	l.waitFor("the image to be forgotten", func() bool { return len(l.status().Images) == 0 })
	calm := 0
	l.waitFor("descriptors to be closed", func() bool {
		nowDaemon, nowKeeper := l.descriptors(l.daemon.Pid), l.descriptors(l.keepers()[0])
		if calm++; !slices.Equal(nowDaemon, daemon) || !slices.Equal(nowKeeper, keeper) {
			calm = 0
		}
		daemon, keeper = nowDaemon, nowKeeper
		return calm == 50
	})
	return daemon, keeper
}

// descriptors is what a process has open, in order, but for sockets: connections to registries are kept for a while.
func (l *lab) descriptors(pid int) (open []string) {
	l.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		l.Fatal(err)
	}
	for _, fd := range fds {
		if what, err := os.Readlink(fd); err == nil && !strings.HasPrefix(what, "socket:") {
			open = append(open, what)
		}
	}
	slices.Sort(open)
	return open
}

// peakMemory is the most that a process had resident, in bytes: 0 if it is not there yet.
func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	return 0
}

// quantile returns the duration that percent of them do not exceed; 0 without any.
func quantile(all []time.Duration, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*percent/100)].Round(100 * time.Microsecond)
}
