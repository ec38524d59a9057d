package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/node/control"
)

// startWith runs a daemon with a configuration.
func (l *lab) startWith(config string) {
	l.Helper()
	path := filepath.Join(l.dir, "config.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		l.Fatal(err)
	}
	l.start("--config", path)
}

// onHost skips a test in the guests of package vmtests: there the kernel keeps the cache, and has not all that mounts of files need.
func onHost(t *testing.T) {
	t.Helper()
	if os.Getenv(require.GuestEnv) != "" {
		t.Skip("about the files of the fanotify and file transports")
	}
}

// randomFile writes bytes that do not compress and differ from those of other files.
func (l *lab) randomFile(path string, size int) {
	l.Helper()
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(path))).Read(b)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		l.Fatal(err)
	}
}

// big makes a tree with one file of that many MiB, of its own bytes.
func (l *lab) big(name string, mib int) (tree string) {
	l.Helper()
	tree = filepath.Join(l.dir, "source-"+name)
	if err := os.Mkdir(tree, 0o755); err != nil {
		l.Fatal(err)
	}
	l.randomFile(filepath.Join(tree, "big"), mib<<20)
	return tree
}

// used mounts an image, reads all of it and unmounts it again.
func (l *lab) used(ref, tree, name string) {
	l.Helper()
	target := l.mount(ref, name)
	l.readAll(tree, target)
	l.unused(target)
}

// unused unmounts and waits until the daemon has forgotten the image.
func (l *lab) unused(target string) {
	l.Helper()
	images := len(l.status().Images)
	l.pagein("umount", target)
	l.waitFor("the image to be forgotten", func() bool { return len(l.status().Images) < images })
}

// gc runs pagein gc.
func (l *lab) gc(args ...string) (r control.GCResponse) {
	l.Helper()
	if err := json.Unmarshal([]byte(l.pagein(append([]string{"gc", "--json"}, args...)...)), &r); err != nil {
		l.Fatal(err)
	}
	return r
}

// TestGCRemovesWhatNobodyHasMounted, says before what that would be, and leaves all that is mounted.
func TestGCRemovesWhatNobodyHasMounted(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.start("--metrics-address", "127.0.0.1:0")
	mounted, gone := l.big("mounted", 3), l.big("gone", 5)
	mountedRef, goneRef := l.layout(mounted), l.layout(gone)
	target := l.mount(mountedRef, "a")
	l.readAll(mounted, target)
	l.used(goneRef, gone, "b")
	before := l.status().Cache

	dry := l.gc("--dry-run")
	if !dry.DryRun || dry.Bytes < 5<<20 || dry.Bytes > 6<<20 || len(dry.Evicted) != 2 {
		t.Errorf("would remove %+v, want a blob and a metadata image of 5 MiB", dry)
	}
	if now := l.status().Cache.Bytes; now != before.Bytes {
		t.Errorf("a dry run changed the cache from %d bytes to %d", before.Bytes, now)
	}
	done := l.gc()
	if done.Bytes != dry.Bytes || len(done.Evicted) != len(dry.Evicted) {
		t.Errorf("removed %+v, said before %+v", done, dry)
	}
	after := l.status()
	if after.Cache.Bytes > before.Bytes-5<<20 || after.Cache.Evicted["gc"] != done.Bytes {
		t.Errorf("the cache had %d bytes and now %d; %d count as evicted", before.Bytes, after.Cache.Bytes, after.Cache.Evicted["gc"])
	}
	metrics := l.metrics()
	for _, want := range []string{
		fmt.Sprintf("pagein_evicted_bytes_total{reason=\"gc\"} %v\n", float64(done.Bytes)), "pagein_cache_limit_bytes{watermark=\"high\"} ", "pagein_disk_full 0\n", "pagein_cache_limited_bytes ",
		fmt.Sprintf("pagein_disk_reserve_bytes %v\n", float64(after.Cache.ReserveBytes)),
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	received := after.Totals.BackendBytes
	l.readAll(mounted, target)
	if now := l.status().Totals.BackendBytes; now != received {
		t.Errorf("%d bytes of a mounted image had to be fetched again", now-received)
	}
	if again := l.gc(); len(again.Evicted) != 0 {
		t.Errorf("a second time it removes %+v", again)
	}
	l.used(goneRef, gone, "c")
}

// TestTheCacheStaysWithinItsLimits mounts more images one after the other than may stay: those used last do.
func TestTheCacheStaysWithinItsLimits(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.startWith("cache-high = '14MiB'\ncache-low = '10MiB'\n")
	var refs, trees []string
	for i := range 4 {
		trees = append(trees, l.big(fmt.Sprint(i), 4))
		refs = append(refs, l.layout(trees[i]))
	}
	for i := range refs {
		l.used(refs[i], trees[i], fmt.Sprint(i))
		time.Sleep(10 * time.Millisecond) // times of files are coarse
	}
	l.waitFor("the cache to shrink", func() bool { return l.status().Cache.Bytes <= 10<<20 })
	s := l.status()
	if s.Cache.Bytes < 4<<20 || s.Cache.Evicted["watermark"] == 0 {
		t.Errorf("the cache has %+v", s.Cache)
	}
	l.used(refs[3], trees[3], "last")
	if now := l.status().Totals.BackendBytes; now != s.Totals.BackendBytes {
		t.Errorf("what was used last was evicted: %d bytes were fetched again", now-s.Totals.BackendBytes)
	}
	l.used(refs[0], trees[0], "first")
	if now := l.status().Totals.BackendBytes; now == s.Totals.BackendBytes {
		t.Error("what was used first was not evicted")
	}
}

// TestIdleMountsGoOnlyByPolicy has an idle mount and one in use, both over the limit. That of a snapshot stays: containerd may just have been told of it.
func TestIdleMountsGoOnlyByPolicy(t *testing.T) {
	beside(t)
	onHost(t)
	for name, c := range map[string]struct {
		policy string
		idle   string // where the idle one is, below the lab's directory
		left   int
	}{
		"never":               {"never", "mnt-idle", 2},
		"soon":                {"200ms", "mnt-idle", 1},
		"soon, of a snapshot": {"1ms", "mnt-snapshots/snapshots/1/fs", 2},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			l := newLab(t)
			l.startWith("cache-high = '4MiB'\ncache-low = '1MiB'\nevict-idle-mounts = '" + c.policy + "'\n[snapshotter]\nroot = '" + l.dir + "/mnt-snapshots'\n")
			busy, idle := l.big("busy", 3), l.big("idle", 3)
			busyOn, idleOn := l.mount(l.layout(busy), "busy"), filepath.Join(l.dir, c.idle)
			if err := os.MkdirAll(idleOn, 0o755); err != nil {
				t.Fatal(err)
			}
			l.pagein("mount", l.layout(idle), idleOn)
			f, err := os.Open(filepath.Join(busyOn, "big"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			l.readAll(busy, busyOn)
			l.readAll(idle, idleOn)
			l.waitFor("the limit to be noticed", func() bool {
				return len(l.status().Images) == c.left && strings.Contains(l.said(), "store is over its limit")
			})
			l.readAll(busy, busyOn)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestNoMoreIdleMountsGoThanMust has two, of which either is enough: the one that was used last stays.
func TestNoMoreIdleMountsGoThanMust(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.startWith("cache-high = '5MiB'\ncache-low = '4MiB'\nevict-idle-mounts = '1s'\n")
	var targets []string
	for _, name := range []string{"first", "last"} {
		tree := l.big(name, 3)
		targets = append(targets, l.mount(l.layout(tree), name))
		l.readAll(tree, targets[len(targets)-1])
	}
	l.waitFor("the cache to shrink", func() bool { return l.status().Cache.Bytes <= 4<<20 })
	if images := l.status().Images; len(images) != 1 || !slices.Equal(images[0].Targets, targets[1:]) {
		t.Errorf("still mounted is %+v, want %s", images, targets[1])
	}
}

// TestEvictionInsideMountsShowsNoWrongByte keeps a mounted image over the limit, so that ranges of it are evicted again and again, while readers compare all of it
// and the daemon is killed.
func TestEvictionInsideMountsShowsNoWrongByte(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	config := "cache-high = '3MiB'\ncache-low = '1MiB'\nevict-mounted-ranges = true\n"
	l.startWith(config)
	tree := l.bigFiles("a", "b", "c", "d", "e", "f", "g")
	l.randomFile(filepath.Join(tree, "unread"), 32<<20) // more than is read ahead, so the image is never complete
	target := l.mount(l.layout(tree), "a")
	var wg sync.WaitGroup
	stop := make(chan bool)
	end := sync.OnceFunc(func() {
		close(stop)
		wg.Wait()
	})
	defer end()
	ranges := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
				if err := compareCold(filepath.Join(tree, name), filepath.Join(target, name)); err != nil {
					t.Error(err)
				}
				ranges++
			}
		}
	})
	var evicted int64
	for range 4 {
		l.waitFor("ranges to be evicted", func() bool { return l.status().Cache.Evicted["watermark"] > 2<<20 })
		evicted += l.status().Cache.Evicted["watermark"]
		l.stop(unix.SIGKILL)
		l.startWith(config)
	}
	end()
	t.Logf("%d files compared, %d MiB evicted, 4 kills", ranges, evicted>>20)
}

// TestMountsFromBeforeTheirRangesWereToGoAreCounted: nobody would know otherwise why nothing is evicted.
func TestMountsFromBeforeTheirRangesWereToGoAreCounted(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.start()
	ref := l.layout(l.bigFiles("a", "b"))
	l.mount(ref, "before")
	l.stop(unix.SIGTERM)
	l.startWith("evict-mounted-ranges = true\n")
	if s := l.status(); s.Cache.Untracked != 1 || !strings.Contains(l.pagein("status"), "1 mounted blob cannot be evicted") {
		t.Errorf("%d blobs are said not to be tracked", s.Cache.Untracked)
	}
	l.unused(filepath.Join(l.dir, "mnt-before"))
	l.mount(ref, "after")
	if s := l.status(); s.Cache.Untracked != 0 || strings.Contains(l.pagein("status"), "cannot be evicted") {
		t.Errorf("%d blobs are said not to be tracked after another mount", s.Cache.Untracked)
	}
}

// TestWhatCannotBeEvictedIsCounted has a complete image and one of which little was read over the limit, without and with eviction of mounted ranges, which both are too old for.
func TestWhatCannotBeEvictedIsCounted(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.start()
	whole := l.big("whole", 3)
	l.readAll(whole, l.mount(l.layout(whole), "whole"))
	part := l.bigFiles(enoughFiles...)
	target := l.mount(l.layout(part), "part")
	l.read(target, enoughFiles[0])
	if s := l.idle(); s.Cache.OverBytes != 0 || s.Cache.Held != nil {
		t.Errorf("nothing limits the store, and %d bytes are over, %v held", s.Cache.OverBytes, s.Cache.Held)
	}
	for _, c := range []struct {
		ranges bool
		most   []string // the reasons for nearly all of it
	}{
		{false, []string{control.HeldMounted}},
		{true, []string{control.HeldComplete, control.HeldUntracked}},
	} {
		l.stop(unix.SIGTERM)
		l.startWith(fmt.Sprintf("cache-high = '2MiB'\ncache-low = '1MiB'\nevict-mounted-ranges = %v\n", c.ranges))
		l.waitFor("the limit to be noticed", func() bool { return strings.Contains(l.said(), "store is over its limit") })
		cache := l.status().Cache
		if cache.OverBytes != cache.Bytes-1<<20 {
			t.Errorf("of %d bytes %d are over", cache.Bytes, cache.OverBytes)
		}
		most, text := int64(0), l.pagein("status")
		for _, reason := range c.most {
			if most += cache.Held[reason]; cache.Held[reason] < 1<<20 || !strings.Contains(text, "\n    "+reason+" ") {
				t.Errorf("%v: nothing is %s: %v\n%s", c.ranges, reason, cache.Held, text)
			}
		}
		if most < cache.Bytes*9/10 {
			t.Errorf("%v: of %d bytes only these are held: %v", c.ranges, cache.Bytes, cache.Held)
		}
		if want := fmt.Sprint("bytes_above_cache_low=", cache.OverBytes); !strings.Contains(l.said(), want) {
			t.Errorf("the log does not say %s", want)
		}
		if err := os.Truncate(filepath.Join(l.dir, "log"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// compareCold compares two files, of which the kernel must ask for the second anew.
func compareCold(want, got string) error {
	f, err := os.Open(got)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	a, err := os.ReadFile(want)
	if err != nil {
		return err
	}
	b := make([]byte, len(a)+1)
	n, err := f.ReadAt(b, 0)
	if n != len(a) {
		return fmt.Errorf("%s: %d bytes of %d could be read: %w", got, n, len(a), err)
	}
	if !slices.Equal(a, b[:n]) {
		return fmt.Errorf("%s: wrong bytes", got)
	}
	return nil
}

// TestMountsAndGCGoTogether mounts, reads and unmounts images that share blobs, some of them prefetched, while all that is idle is removed again and again.
func TestMountsAndGCGoTogether(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.start()
	old := l.bigFiles("shared", "old")
	oldRef := l.layout(old)
	next := filepath.Join(l.dir, "source-next")
	if err := errors.Join(os.CopyFS(next, os.DirFS(old)), os.Remove(filepath.Join(next, "old"))); err != nil {
		t.Fatal(err)
	}
	l.randomFile(filepath.Join(next, "new"), 1<<20)
	nextRef := "oci:" + filepath.Join(l.dir, "layout") + ":next"
	l.pagein("convert", "--dict", oldRef, "dir:"+next, nextRef) // borrows from the old one

	stop := make(chan bool)
	var collecting, mounting sync.WaitGroup
	removed := int64(0)
	collecting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if out, err := l.try("gc", "--json"); err != nil {
					t.Error(err)
				} else {
					var r control.GCResponse
					if err := json.Unmarshal([]byte(out), &r); err != nil {
						t.Error(err)
					}
					removed += r.Bytes
				}
			}
		}
	})
	for i, c := range []struct{ ref, tree string }{{oldRef, old}, {nextRef, next}, {oldRef, old}, {nextRef, next}} {
		target := l.target(fmt.Sprint(i))
		mounting.Go(func() {
			for round := range 6 {
				prefetch := []string{"none", "all"}[round%2]
				if _, err := l.try("mount", "--prefetch", prefetch, c.ref, target); err != nil {
					t.Error(err)
					return
				}
				if diffs, err := treetest.Diff(c.tree, target, treetest.Options{Readers: 2}); err != nil || len(diffs) > 0 {
					t.Error(err, diffs)
				}
				if _, err := l.try("umount", target); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	mounting.Wait()
	close(stop)
	collecting.Wait()
	t.Logf("%d MiB removed between and during 24 mounts", removed>>20)
	if removed == 0 {
		t.Error("nothing was ever removed")
	}
	if s := l.status(); s.Totals.FailedReads > 0 {
		t.Errorf("%d reads failed", s.Totals.FailedReads)
	}
}
