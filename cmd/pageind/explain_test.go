package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/profile"
	"github.com/pagein/pagein/report"
)

// explained is what pagein explain --json says.
func (l *lab) explained(what string) (r report.Report) {
	l.Helper()
	if err := json.Unmarshal([]byte(l.pagein("explain", "--json", what)), &r); err != nil {
		l.Fatal(err)
	}
	return r
}

// paths are those of the files that were wanted.
func paths(r report.Report) (all []string) {
	for _, f := range r.Files {
		all = append(all, f.Path)
	}
	return all
}

// enoughFiles are so many that guesses do not fetch them all: what is complete is read without the daemon.
var enoughFiles = strings.Split("abcdefghijklmnop", "")

// read reads files of a mount.
func (l *lab) read(target string, names ...string) {
	l.Helper()
	for _, name := range names {
		if _, err := os.ReadFile(filepath.Join(target, name)); err != nil {
			l.Fatal(err)
		}
	}
}

func TestWhatReadersWaitedForIsExplained(t *testing.T) {
	l := newLab(t)
	l.start()
	ref := l.layout(l.bigFiles(enoughFiles...))
	target := l.mount(ref, "x")
	l.read(target, "b", "a")
	r := l.explained(target)
	if got := paths(r); !slices.Equal(got, []string{"/b", "/a"}) {
		t.Errorf("files are %q, want /b and /a in this order", got)
	}
	if r.Waits.Count == 0 || r.Waits.Sum <= 0 || r.Image.Files != len(enoughFiles) || r.Image.Read != 2 || r.Image.Fetched == 0 || len(r.Phases) != 5 {
		t.Errorf("explained: %+v", r)
	}
	if r.Transport == "fanotify" && r.Image.ReadBytes != 6<<20 { // over cachefiles the kernel does not tell what it reads of what is there
		t.Errorf("read were %d bytes", r.Image.ReadBytes)
	}
	for _, m := range r.Misses {
		if m.Took <= 0 || m.Cost.Backend()+m.Cost.Verify > m.Took || m.Err != "" || m.At < r.Phases[1].At {
			t.Errorf("a miss: %+v", m)
		}
	}
	for _, what := range []string{target + "/.", filepath.Dir(target) + "/./mnt-x", ref, r.ID, r.ID[:12]} {
		if other := l.explained(what); other.ID != r.ID {
			t.Errorf("%s is image %s", what, other.ID)
		}
	}
	if _, err := l.try("explain", "nothing-of-that-name"); err == nil || !strings.Contains(err.Error(), "pagein status") {
		t.Errorf("what is nothing: %v", err)
	}
	page := filepath.Join(l.dir, "r.html")
	l.pagein("report", target, "-o", page)
	if b, err := os.ReadFile(page); err != nil || !strings.Contains(string(b), "Who waited when") {
		t.Errorf("the report: %.100s, %v", b, err)
	}
	// A successor knows only what comes after it.
	l.stop(unix.SIGKILL)
	l.start()
	if r := l.explained(target); !r.Adopted || len(r.Files) != 0 {
		t.Errorf("after a restart: %+v", r)
	}
	l.read(target, "c")
	if got := paths(l.explained(target)); r.Transport == "fanotify" && !slices.Equal(got, []string{"/c"}) {
		t.Errorf("after a restart files are %q", got)
	}
}

func TestWhatWasReadIsSuggestedAsAProfile(t *testing.T) {
	l := newLab(t)
	l.start()
	ref := l.layout(l.bigFiles(enoughFiles...))
	if _, err := l.try("profile", "suggest", ref); err == nil || !strings.Contains(err.Error(), "recorded nothing") {
		t.Errorf("before anything was read: %v", err)
	}
	suggested := func() (names []string) {
		t.Helper()
		p, err := profile.Read(strings.NewReader(l.pagein("profile", "suggest", ref)))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			if e.Kind != profile.KindMiss || e.Size != 3<<20 || e.Time > time.Minute {
				t.Errorf("suggested: %+v", e)
			}
			if !slices.Contains(names, e.Path) {
				names = append(names, e.Path)
			}
		}
		return names
	}
	target := l.mount(ref, "x")
	l.read(target, "c")
	l.read(target, "a")
	if got := suggested(); !slices.Equal(got, []string{"/c", "/a"}) {
		t.Errorf("while it is mounted: %q", got)
	}
	// It is kept when the image is not mounted any more, and by the next daemon.
	l.pagein("umount", target)
	l.stop(unix.SIGTERM)
	l.start()
	l.waitFor("the recording", func() bool { return slices.Equal(suggested(), []string{"/c", "/a"}) })
	l.pagein("mount", ref, target)
	l.read(target, "b")
	names := suggested()
	slices.Sort(names)
	// Over cachefiles the kernel does not ask for what was fetched ahead the first time.
	if l.status().Images[0].Transport == "fanotify" && !slices.Equal(names, []string{"/a", "/b", "/c"}) {
		t.Errorf("of two recordings: %q", names)
	}
	if out, err := l.try("profile", "suggest", "--min", "2", ref); err == nil && strings.Contains(out, `"/b"`) {
		t.Errorf("what was in one of two recordings is in both: %s", out)
	}
}

// TestLaterContainersAreRecordedToo has a container begin on an image that the daemon found mounted, when its own start was recorded by the one before.
func TestLaterContainersAreRecordedToo(t *testing.T) {
	r := newRuntimeLab(t)
	var files []tartest.Member
	for i, name := range []string{"one", "two", "three"} {
		data := make([]byte, 8<<20) // enough that the image is not complete by chance
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		files = append(files, tartest.File(name, string(data)))
	}
	image := r.push("app", r.layers[0], r.layer(files...))
	r.pagein("convert", "--quiet", image)
	r.pull(image)
	suggested := func(name string) bool {
		p, err := profile.Read(strings.NewReader(r.pagein("profile", "suggest", image)))
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(p.Entries, func(e profile.Entry) bool { return e.Path == name })
	}
	r.run(image, "head", "-c", "4096", "/one")
	if !suggested("/one") || suggested("/two") {
		t.Error("of the first container something else is recorded than what it read")
	}
	r.stop(unix.SIGTERM)
	r.serve()
	r.waitFor("the recording", func() bool { return suggested("/one") })
	r.run(image, "head", "-c", "4096", "/two")
	if !suggested("/one") || !suggested("/two") || suggested("/three") {
		t.Error("what the second container read is not recorded")
	}
}

func TestAContainerIsExplainedByItsID(t *testing.T) {
	r := newRuntimeLab(t)
	image := r.push("app", r.layers...)
	r.pagein("convert", "--quiet", image)
	r.pull(image)
	r.Ctr("run", "-d", "--snapshotter", "pagein", image, "sleeper-1234", "/bin/busybox", "sleep", "1000")
	r.Ctr("run", "-d", "--snapshotter", "pagein", image, "t3", "/bin/busybox", "sleep", "1000")
	targets := r.mounted()
	if len(targets) != 1 {
		t.Fatalf("mounted are %v", targets)
	}
	byMount := r.explained(targets[0])
	for _, what := range []string{"sleeper-1234", "sleeper-1", "t3", image} {
		got := r.explained(what)
		if got.ID != byMount.ID || !slices.Contains(paths(got), "/bin/busybox") {
			t.Errorf("%s is %s and read %v, its mount is of %s", what, got.ID, paths(got), byMount.ID)
		}
	}
}
