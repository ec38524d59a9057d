package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pagein/pagein/internal/kmount"
)

// held is what a daemon and its keeper have open when nothing is mounted.
type held struct{ daemon, keeper []string }

// idleRuntime pulls an image, runs a container and removes both, and returns what stays open afterwards: for good, as what comes later can be compared with.
func (r *runtimeLab) idleRuntime(image string) (h held) {
	r.Helper()
	r.isFound() // the daemon may just have been started anew
	r.pull(image)
	r.run(image, "true")
	r.Ctr("images", "rm", "--sync", image)
	h.daemon, h.keeper = r.settled()
	return h
}

// nothingLeft checks that nothing is left of containers and images that were removed: at containerd, on disk, mounted, as a process, in the kernel, or open in the daemon and its keeper besides
// what they had open before.
func (r *runtimeLab) nothingLeft(before held) {
	r.Helper()
	for what, args := range map[string][]string{
		"images":     {"images", "ls", "-q"},
		"containers": {"containers", "ls", "-q"},
		"tasks":      {"tasks", "ls", "-q"},
		"leases":     {"leases", "ls", "-q"},
		"contents":   {"content", "ls", "-q"},
		"snapshots":  {"snapshots", "--snapshotter", "pagein", "ls"},
	} {
		if left := r.Lines(args...); len(left) > 0 {
			r.Errorf("%s are left: %v", what, left)
		}
	}
	r.waitFor("directories of snapshots to go", func() bool { // containerd's garbage collector removes them a moment after their names
		left, err := os.ReadDir(filepath.Join(r.root, "snapshotter", "snapshots"))
		return err == nil && len(left) == 0
	})
	if left := r.mountsBelow(r.dir, r.Dir); len(left) > 0 {
		r.Errorf("mounts are left: %v", left)
	}
	if left := r.shims(); len(left) > 0 {
		r.Errorf("processes are left: %v", left)
	}
	daemon, keeper := r.settled()
	if len(daemon) > len(before.daemon) {
		r.Errorf("pageind has open %q, at first %q", daemon, before.daemon)
	}
	if len(keeper) > len(before.keeper) {
		r.Errorf("the keeper has open %q, at first %q", keeper, before.keeper)
	}
	if n := r.marks(); n > 0 {
		r.Errorf("%d marks are left", n)
	}
	r.gc()
	for _, kind := range []string{"blobs", "maps", "meta"} {
		if left, err := os.ReadDir(filepath.Join(r.root, kind)); err != nil || len(left) > 0 {
			r.Errorf("nobody uses what is in the store, and yet there are %v in %s, %v", left, kind, err)
		}
	}
}

// mountsBelow lists what is mounted below directories.
func (l *lab) mountsBelow(dirs ...string) (targets []string) {
	l.Helper()
	all, err := kmount.List()
	if err != nil {
		l.Fatal(err)
	}
	for _, m := range all {
		for _, dir := range dirs {
			if strings.HasPrefix(m.Target, dir+"/") {
				targets = append(targets, m.Target)
			}
		}
	}
	return targets
}

// shims are the processes that containerd started for containers.
func (r *runtimeLab) shims() (found []string) {
	r.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		r.Fatal(err)
	}
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err == nil && bytes.Contains(b, []byte("containerd-shim")) && bytes.Contains(b, []byte(r.Dir+"/")) {
			found = append(found, fmt.Sprintf("%s: %s", filepath.Base(filepath.Dir(p)), bytes.ReplaceAll(b, []byte{0}, []byte(" "))))
		}
	}
	return found
}
