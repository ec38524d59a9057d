package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/node/control"
)

// files returns the files below the store's root that match a pattern, of which there must be some.
func (l *lab) files(pattern string) []string {
	l.Helper()
	found, err := filepath.Glob(filepath.Join(l.root, pattern))
	if err != nil || len(found) == 0 {
		l.Fatalf("no %s in the store (%v)", pattern, err)
	}
	return found
}

// damage changes bytes of a file where it has data: at its beginning, and in its middle.
func (l *lab) damage(path string) {
	l.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		l.Fatal(err)
	}
	for _, off := range []int64{0, st.Size() / 2} {
		b := make([]byte, min(64, st.Size()))
		n, err := f.ReadAt(b, off)
		for i := range b[:n] {
			b[i] ^= 0xa5
		}
		if n > 0 {
			_, err = f.WriteAt(b[:n], off)
		}
		if err != nil {
			l.Fatal(err)
		}
	}
}

// blobFiles are the blob files of the store, without their records.
func (l *lab) blobFiles() (blobs []string) {
	l.Helper()
	for _, f := range l.files("blobs/*") {
		if filepath.Ext(f) == "" {
			blobs = append(blobs, f)
		}
	}
	return blobs
}

// check runs pagein check --store and returns its answer, whatever it finds.
func (l *lab) check(args ...string) (r control.CheckResponse) {
	l.Helper()
	out, err := l.try(append([]string{"check", "--store", "--json"}, args...)...)
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil {
		l.Fatalf("%v, %v", err, jsonErr)
	}
	if (err == nil) != r.OK {
		l.Errorf("the command ends with %v, and says %+v", err, r)
	}
	return r
}

// TestDamageOnTheDiskIsFoundAndMended fetches all of an image, stops the daemon, damages what it has stored, and starts it again. Whatever was damaged, the image reads right; only bytes that are called present
// need somebody to look for damage.
func TestDamageOnTheDiskIsFoundAndMended(t *testing.T) {
	beside(t)
	onHost(t)
	for _, c := range []struct {
		name   string
		damage func(l *lab)
		check  bool // it needs to be looked for
	}{
		{"blob files", func(l *lab) {
			for _, f := range l.blobFiles() {
				l.damage(f)
			}
		}, true},
		{"blob files cut off", func(l *lab) {
			for _, f := range l.blobFiles() {
				if err := os.Truncate(f, 8192); err != nil {
					l.Fatal(err)
				}
			}
		}, false},
		{"blob files gone", func(l *lab) {
			for _, f := range l.blobFiles() {
				if err := os.Remove(f); err != nil {
					l.Fatal(err)
				}
			}
		}, false},
		{"records of what is present", func(l *lab) {
			for _, f := range l.files("blobs/*.present") {
				l.damage(f)
			}
		}, false},
		{"metadata image", func(l *lab) { l.damage(l.files("meta/*")[0]) }, false},
		{"maps", func(l *lab) {
			for _, f := range l.files("maps/*") {
				l.damage(f)
			}
		}, false},
		{"mount table", func(l *lab) { l.damage(l.files("state/mounts.json")[0]) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			tree := l.bigFiles("a", "b")
			ref := l.layout(tree)
			l.start()
			target := l.mount(ref, "one")
			l.readAll(tree, target)
			l.pagein("umount", target)
			l.waitFor("the image to go", func() bool { return len(l.status().Images) == 0 })
			if r := l.check(); !r.OK || r.Frames == 0 {
				t.Fatalf("before any damage: %+v", r)
			}
			l.stop(unix.SIGTERM)
			c.damage(l)

			found := l.check(l.root) // without a daemon
			if found.OK || found.Problems == 0 {
				t.Errorf("the damage was not found: %+v", found)
			}
			l.start()
			if c.check {
				if r := l.check("--repair"); !r.OK || r.Problems != found.Problems {
					t.Errorf("got %+v, want the repair of %d problems", r, found.Problems)
				}
			}
			l.readAll(tree, l.mount(ref, "two"))
			if r := l.check("--repair"); !r.OK {
				t.Errorf("afterwards: %+v", r)
			}
			if r := l.check(); r.Problems > 0 {
				t.Errorf("in the end: %+v", r)
			}
		})
	}
}

// TestDamageIsMendedUnderAMount damages a blob file of an image that is mounted, and has it mended. Whoever reads it then, without the kernel's cache, gets right bytes.
func TestDamageIsMendedUnderAMount(t *testing.T) {
	beside(t)
	onHost(t)
	for _, partly := range []bool{false, true} {
		l := newLab(t)
		tree := l.bigFiles("a", "b")
		ref := l.layout(tree)
		l.start()
		target := l.mount(ref, "mounted")
		if !partly { // else its blob stays marked, and the damage is to what the damaging itself fetches
			l.readAll(tree, target)
		}
		l.idle()
		for _, f := range l.blobFiles() {
			l.damage(f)
		}
		r := l.check("--repair")
		if !r.OK || r.Problems == 0 || !strings.Contains(r.ProblemList[0].Note, "in use") || !slices.Equal(r.ProblemList[0].Images, []string{ref}) {
			t.Errorf("got %+v", r)
		}
		if want := fmt.Sprintf("part=frame where=%q", r.ProblemList[0].Where); !strings.Contains(l.said(), want) {
			t.Errorf("the log does not say %s", want)
		}
		l.pagein("umount", target)
		l.waitFor("the image to go", func() bool { return len(l.status().Images) == 0 })
		l.readAll(tree, l.mount(ref, "again"))
		if r := l.check(); r.Problems > 0 {
			t.Errorf("in the end: %+v", r)
		}
	}
}

// TestWhatDescribesAMountIsFetchedAgain damages maps and metadata image of an image that is mounted. A repair puts sound ones there, with which the next daemon serves the mount.
func TestWhatDescribesAMountIsFetchedAgain(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	tree := l.bigFiles("a", "b")
	ref := l.layout(tree)
	l.start("--metrics-address", "127.0.0.1:0")
	target := l.mount(ref, "image")
	l.readAll(tree, target)
	l.idle()
	for _, f := range l.files("maps/*") {
		l.damage(f)
	}
	l.measures("pagein_state_unsaved 0\n", "pagein_keeper_present 1\n")
	found := l.check()
	if found.OK {
		t.Errorf("the damage is not found: %+v", found)
	}
	l.measures(fmt.Sprintf("pagein_store_check_problems %d\n", found.Problems), "pagein_store_check_timestamp_seconds ")
	r := l.check("--repair")
	if !r.OK || r.Problems == 0 || !strings.Contains(r.ProblemList[0].Note, "restarted") || !slices.Equal(r.ProblemList[0].Images, []string{ref}) {
		t.Errorf("got %+v", r)
	}
	if r := l.check(); r.Problems > 0 {
		t.Errorf("after the repair: %+v", r)
	}
	l.stop(unix.SIGKILL)
	l.start()
	if s := l.status(); len(s.Images) != 1 {
		t.Errorf("the next daemon serves %+v", s.Images)
	}
	l.readAll(tree, target)
	l.pagein("umount", target)
	l.waitFor("the image to go", func() bool { return len(l.status().Images) == 0 })
}

// TestAStoreInUseIsNotCheckedWithoutItsDaemon kills the daemon below a mount. A check would wait for it as readers do, by whatever path it comes to the store.
func TestAStoreInUseIsNotCheckedWithoutItsDaemon(t *testing.T) {
	onHost(t)
	l := newLab(t)
	tree := l.bigFiles("a", "b")
	ref := l.layout(tree)
	l.start()
	target := l.mount(ref, "image")
	l.stop(unix.SIGKILL)
	link := filepath.Join(l.dir, "link")
	if err := os.Symlink(l.root, link); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{l.root, link} {
		if out, err := l.try("check", "--store", root); err == nil || !strings.Contains(out+err.Error(), "start pageind") {
			t.Errorf("%s: %v, %s", root, err, out)
		}
	}
	l.start()
	l.readAll(tree, target)
}

// TestADamagedMountTableLosesNoMount damages the mount table while the daemon is dead and an image is mounted: the next daemon reads its copy. With the copy damaged, too, it does not start, because it
// would not know whose readers wait.
func TestADamagedMountTableLosesNoMount(t *testing.T) {
	beside(t)
	onHost(t)
	for _, both := range []bool{false, true} {
		l := newLab(t)
		tree := l.bigFiles("a", "b")
		ref := l.layout(tree)
		l.start()
		target := l.mount(ref, "image")
		l.stop(unix.SIGKILL)
		table := l.files("state/mounts.json")[0]
		sound, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		l.damage(table)
		if both {
			l.damage(table + ".copy")
			l.launch()
			if err := <-l.daemon.ended; err == nil || !strings.Contains(l.said(), "damaged") {
				t.Errorf("with no table: %v, %s", err, l.said())
			}
			l.daemon = nil
			if err := os.WriteFile(table, sound, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l.start()
		l.readAll(tree, target)
	}
}
