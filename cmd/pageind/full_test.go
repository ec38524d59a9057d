package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/treetest"
)

// TestAFullDiskCostsTheReserveThenWhatIsIdle, then readers get errors, and it heals by itself.
func TestAFullDiskCostsTheReserveThenWhatIsIdle(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.smallDisk()
	l.startWith("cache-high = '1GB'\ncache-low = '1GB'\n") // so that only a failed write evicts
	idle, tree := l.big("idle", 4), l.bigFiles("a", "b", "c", "d", "e")
	l.used(l.layout(idle), idle, "b")
	target := l.mount(l.layout(tree), "a")
	l.waitFor("the reserve", func() bool { return l.status().Cache.ReserveBytes > 0 })
	filler := l.fillDisk()

	if err := compareCold(filepath.Join(tree, "a"), filepath.Join(target, "a")); err != nil {
		t.Errorf("a read that idle data could have made room for: %v", err)
	}
	if s := l.status(); s.Cache.ReserveBytes != 0 || s.Cache.Evicted["full"] < 4<<20 || !strings.Contains(s.Problem, "disk is full") {
		t.Errorf("the reserve has %d bytes, %d were evicted, the problem is %q", s.Cache.ReserveBytes, s.Cache.Evicted["full"], s.Problem)
	}
	diffs, err := treetest.Diff(tree, target, treetest.Options{Readers: 4})
	if err == nil && len(diffs) == 0 {
		t.Error("all could be read though there was no space for it")
	}
	for _, d := range diffs {
		if !strings.Contains(d, unix.EIO.Error()) {
			t.Errorf("not an error but wrong bytes: %s", d)
		}
	}
	if s := l.status(); !s.Cache.Full || !strings.Contains(s.Problem, "readers of what is missing get errors") {
		t.Errorf("full is %v, the problem is %q", s.Cache.Full, s.Problem)
	}
	if code := l.ready(); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz says %d on a full disk", code)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.readAll(tree, target)
	l.waitFor("the disk to be well again", func() bool {
		s := l.status()
		return s.Problem == "" && !s.Cache.Full && s.Cache.ReserveBytes > 0
	})
	if code := l.ready(); code != http.StatusOK {
		t.Errorf("/readyz says %d when there is space", code)
	}
}

// ready is the status code of /readyz.
func (l *lab) ready() int {
	l.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.dir+"/sock")
	}}}
	resp, err := client.Get("http://pageind/readyz")
	if err != nil {
		l.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestADiskWithoutInodesIsAFullDisk: what is idle goes, mounts fail with a reason, and it heals by itself.
func TestADiskWithoutInodesIsAFullDisk(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.smallDisk("-N", "128")
	l.startWith("cache-high = '1GB'\ncache-low = '1GB'\n")
	idle, first := l.big("idle", 1), l.big("first", 1)
	idleRef, firstRef := l.layout(idle), l.layout(first)
	var trees, refs []string
	for i := range 4 {
		trees = append(trees, l.big(fmt.Sprint(i), 1))
		refs = append(refs, l.layout(trees[i]))
	}
	l.used(idleRef, idle, "idle")
	l.waitFor("the reserve", func() bool { return l.status().Cache.ReserveBytes > 0 })
	fillers := l.fillInodes()

	target := l.mount(firstRef, "a")
	l.readAll(first, target)
	if s := l.status(); s.Cache.ReserveBytes != 0 || !strings.Contains(s.Problem, "disk is full") {
		t.Errorf("the reserve has %d bytes, the problem is %q", s.Cache.ReserveBytes, s.Problem)
	}
	failed := -1
	for i := range refs {
		on := l.target(fmt.Sprint(i))
		if _, err := l.try("mount", refs[i], on); err != nil {
			if failed = i; !strings.Contains(err.Error(), unix.ENOSPC.Error()) || !strings.Contains(err.Error(), "pagein gc") {
				t.Errorf("the mount failed with %v", err)
			}
			break
		}
		l.readAll(trees[i], on)
	}
	if failed < 0 {
		t.Fatal("all could be mounted")
	}
	if s := l.status(); s.Cache.Evicted["full"] == 0 {
		t.Error("nothing idle was evicted")
	}
	l.readAll(first, target)
	for _, f := range fillers {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	l.waitFor("the disk to be well again", func() bool {
		s := l.status()
		return s.Problem == "" && s.Cache.ReserveBytes > 0
	})
	l.readAll(trees[failed], l.mount(refs[failed], "healed"))
}

// fillInodes makes files on the store's disk until it has no inode left.
func (l *lab) fillInodes() (files []string) {
	l.Helper()
	for i := range 1 << 16 {
		path := filepath.Join(l.root, fmt.Sprintf("filler-%d", i))
		err := os.WriteFile(path, nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			return files
		}
		if err != nil {
			l.Fatal(err)
		}
		files = append(files, path)
	}
	l.Fatal("the disk has too many inodes")
	return nil
}

// TestAFileImageIsMountedWhenIdleDataMakesRoom fetches an image whole, on a disk that has no space for it before something else goes, while the disk is over its limit.
func TestAFileImageIsMountedWhenIdleDataMakesRoom(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.smallDisk()
	idle, tree := l.big("idle", 8), l.bigFiles("a", "b")
	idleRef, ref := l.layout(idle), l.layout(tree)
	l.startWith("cache-high = '1GB'\ncache-low = '1GB'\n")
	l.used(idleRef, idle, "idle")
	l.waitFor("the reserve", func() bool { return l.status().Cache.ReserveBytes > 0 })
	filler := l.fillDisk()
	first := l.target("first")
	if _, err := l.try("mount", "--transport", "file", ref, first); err != nil {
		t.Fatalf("idle data could have made room: %v", err)
	}
	l.readAll(tree, first)
	s := l.status()
	if s.Cache.Evicted["full"] < 8<<20 {
		t.Errorf("%d bytes were evicted", s.Cache.Evicted["full"])
	}
	more := l.big("more", 20)
	moreRef, second := l.layout(more), l.target("second")
	if _, err := l.try("mount", "--transport", "file", moreRef, second); err == nil || !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		t.Errorf("an image for which there is no space: %v", err)
	}
	l.readAll(tree, first)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.pagein("mount", "--transport", "file", moreRef, second)
	l.readAll(more, second)
	l.waitFor("the disk to be well again", func() bool { return l.status().Problem == "" })
}
