package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

// TestLazyMountEqualsSource reads an image through its lazy mount and finds every byte and attribute of the tree that it was made from.
func TestLazyMountEqualsSource(t *testing.T) {
	beside(t)
	for name, place := range map[string]func(*lab, string) string{"layout": (*lab).layout, "registry": (*lab).registry} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			l := newLab(t)
			tree := l.tree(1)
			l.start()
			target := l.mount(place(l, tree), "a")
			before := l.status().Images[0]
			if before.PresentBytes != 0 {
				t.Errorf("%d bytes were fetched before anybody read", before.PresentBytes)
			}
			l.readAll(tree, target)
			after := l.idle().Images[0]
			const zeros = 4 << 20 // what stands for the holes of sparse files is read in part
			if after.TotalBytes-after.PresentBytes > zeros {
				t.Errorf("all was read, and %d of %d bytes are present", after.PresentBytes, after.TotalBytes)
			}
			// Warm, and after the kernel has forgotten what it cached, nothing is fetched again.
			l.readAll(tree, target)
			if again := l.idle().Images[0]; again.FetchedBytes != after.FetchedBytes {
				t.Errorf("%d bytes were fetched again", again.FetchedBytes-after.FetchedBytes)
			}
		})
	}
}

// TestTheGoToolchainReadsBack is TestLazyMountEqualsSource with a real tree.
func TestTheGoToolchainReadsBack(t *testing.T) {
	beside(t)
	if os.Getenv(require.GuestEnv) != "" {
		t.Skip("the guests have no Go toolchain, and reading one would take them minutes")
	}
	goroot, err := exec.Command(require.Tool(t, "go"), "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	tree := strings.TrimSpace(string(goroot))
	l := newLab(t)
	l.start()
	ref := "oci:" + filepath.Join(l.dir, "layout") + ":go"
	l.pagein("convert", "dir:"+tree, ref)
	l.readAll(tree, l.mount(ref, "a"))
}

// TestPresenceSurvivesARestart stops the daemon cleanly with all unmounted: what it had fetched it does not fetch again.
func TestPresenceSurvivesARestart(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.tree(1)
	l.start()
	ref := l.layout(tree)
	target := l.mount(ref, "a")
	l.readAll(tree, target)
	l.pagein("umount", target)
	l.stop(unix.SIGTERM)
	l.waitFor("the keeper to end", func() bool { return len(l.keepers()) == 0 })
	l.start()
	l.pagein("mount", ref, target)
	l.readAll(tree, target)
	if got := l.status().Totals.BackendBytes; got != 0 {
		t.Errorf("%d bytes were fetched again", got)
	}
}

// TestImagesShareBlobsAndMounts mounts one image twice and one that shares a blob with it.
func TestImagesShareBlobsAndMounts(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.smallTree(1)
	l.start()
	ref := l.layout(tree)
	first := l.mount(ref, "a")
	second := l.mount(ref, "b")
	l.readAll(tree, second)
	fetched := l.idle().Totals.BackendBytes

	// The same files under another name have the same blob and another metadata image.
	if err := os.Chmod(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	third := l.mount(l.layout(tree), "c")
	l.readAll(tree, third)
	s := l.idle()
	if s.Totals.BackendBytes != fetched {
		t.Errorf("%d bytes were fetched again for a shared blob", s.Totals.BackendBytes-fetched)
	}
	if len(s.Images) != 2 || len(s.Images[0].Targets)+len(s.Images[1].Targets) != 3 {
		t.Errorf("status shows %+v", s.Images)
	}
	for _, target := range []string{first, third, second} {
		l.pagein("umount", target)
	}
	l.waitFor("the images to be forgotten", func() bool { return len(l.status().Images) == 0 })
}

// TestAnOpenFileKeepsItsImageServed unmounts an image lazily while a file is open, and mounts and unmounts it again elsewhere: the open file stays right.
func TestAnOpenFileKeepsItsImageServed(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("f")
	l.start()
	ref := l.layout(tree)
	first := l.mount(ref, "a")
	f, err := os.Open(filepath.Join(first, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(first, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	_, err = l.try("mount", ref, l.target("b"))
	if err == nil {
		l.pagein("umount", filepath.Join(l.dir, "mnt-b"))
	} else if !strings.Contains(err.Error(), "cannot be bound from") { // over fscache there is one superblock for an image
		t.Error(err)
	}
	l.stop(unix.SIGKILL)
	l.start()
	want, err := os.ReadFile(filepath.Join(tree, "f"))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("wrong bytes, or %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l.waitFor("the image to be forgotten", func() bool { return len(l.status().Images) == 0 })
}

// TestASecondMountShowsTheWholeImage has only a part of the image bound at the path that comes first.
func TestASecondMountShowsTheWholeImage(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("f")
	if err := os.Mkdir(filepath.Join(tree, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.start()
	ref := l.layout(tree)
	first := l.mount(ref, "z")
	if err := unix.Mount(filepath.Join(first, "sub"), l.target("a"), "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	l.readAll(tree, l.mount(ref, "y"))
}

// TestTransportsByName mounts through each transport that this kernel offers, and is told why it does not offer the others.
func TestTransportsByName(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("f")
	l.start()
	ref := l.layout(tree)
	offered := 0
	for _, tr := range l.status().Transports {
		if !tr.Available {
			if _, err := l.try("mount", "--transport", tr.Name, ref, l.target(tr.Name)); err == nil || !strings.Contains(err.Error(), tr.Reason) {
				t.Errorf("%s: got %v, want %s", tr.Name, err, tr.Reason)
			}
			continue
		}
		offered++
		target := l.target(tr.Name)
		l.pagein("mount", "--transport", tr.Name, ref, target)
		if got := l.status().Images[0].Transport; got != tr.Name {
			t.Errorf("mounted through %s, wanted %s", got, tr.Name)
		}
		l.readAll(tree, target)
		l.pagein("umount", target)
		l.waitFor("the image to be forgotten", func() bool { return len(l.status().Images) == 0 })
	}
	if offered == 0 {
		t.Error("no transport is offered")
	}
}

// TestThePreparedCommandMounts runs what prepare prints.
func TestThePreparedCommandMounts(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.bigFiles("f")
	l.start()
	ref := l.layout(tree)
	target := l.target("a")
	command := strings.TrimSpace(l.pagein("prepare", ref))
	words := strings.Fields(strings.ReplaceAll(command, "DIR", target))
	if words[2] == "pagein" { // what mount(8) does with that type
		helper := filepath.Join(l.dir, "mount.pagein")
		if err := os.Symlink(filepath.Join(programs, "pagein"), helper); err != nil {
			t.Fatal(err)
		}
		rest := words[3:]
		words = append([]string{helper}, rest[len(rest)-2:]...)
		words = append(words, rest[:len(rest)-2]...)
	}
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	l.readAll(tree, target)
	table := filepath.Join(l.root, "state", "mounts.json")
	l.waitFor("pageind to notice the mount", func() bool { return bytes.Contains(mustRead(t, table), []byte(`"Watches": [`)) })
	l.stop(unix.SIGKILL)
	time.Sleep(1500 * time.Millisecond) // were it not needed, the keeper would end
	l.start()
	l.readAll(tree, target)
}

// TestAnOrdinaryUserIsToldWhatIsMissing runs the programs without privileges.
func TestAnOrdinaryUserIsToldWhatIsMissing(t *testing.T) {
	l := newLab(t)
	l.start()
	if err := errors.Join(os.Chmod(programs, 0o755), os.Chmod(l.dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"pageind", "--root", "/nowhere"}, "needs root"},
		{[]string{"pagein", "--address", l.socket(), "status"}, "permission denied"},
	} {
		cmd := exec.Command(filepath.Join(programs, c.args[0]), c.args[1:]...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: got %v, %s; want an error that says %q", c.args, err, out, c.want)
		}
	}
}

// TestCorruptBytesAreNeverServed damages the layout: readers of what is damaged get EIO, others do not notice, and it heals.
func TestCorruptBytesAreNeverServed(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("bad", "good")
	l.start()
	ref := l.layout(tree)
	object := l.object()
	sound, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(sound)
	damaged[100] ^= 1
	if err := os.WriteFile(object, damaged, 0o644); err != nil {
		t.Fatal(err)
	}
	target := l.mount(ref, "a")
	if _, err := os.ReadFile(filepath.Join(target, "bad")); !errors.Is(err, unix.EIO) {
		t.Errorf("damaged file: got %v, want %v", err, unix.EIO)
	}
	if _, err := os.ReadFile(filepath.Join(target, "good")); err != nil {
		t.Errorf("sound file: %v", err)
	}
	if s := l.status(); s.Totals.FailedReads == 0 || s.Images[0].Problem == "" {
		t.Errorf("status does not tell: %+v", s)
	}
	if err := os.WriteFile(object, sound, 0o644); err != nil {
		t.Fatal(err)
	}
	l.readAll(tree, target)
	if s := l.status(); s.Images[0].Problem != "" {
		t.Errorf("status still tells of %q", s.Images[0].Problem)
	}
}

// object finds the largest blob of the lab's layout: the source object.
func (l *lab) object() (largest string) {
	l.Helper()
	files, err := filepath.Glob(filepath.Join(l.dir, "layout", "blobs", "sha256", "*"))
	if err != nil {
		l.Fatal(err)
	}
	var size int64
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			l.Fatal(err)
		}
		if st.Size() > size {
			largest, size = f, st.Size()
		}
	}
	return largest
}

// TestAFullDiskLosesNothing has the store's disk run full, without a reserve: readers get errors, and all is well when there is space again.
func TestAFullDiskLosesNothing(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.tree(4)
	if os.Getenv(require.GuestEnv) == "" { // in a guest the disk is small anyway
		l.smallDisk()
	}
	l.startWith("cache-reserve = '0'\n")
	target := l.mount(l.layout(tree), "a")
	filler := l.fillDisk()
	diffs, err := treetest.Diff(tree, target, treetest.Options{Readers: 4})
	if err == nil && len(diffs) == 0 {
		t.Error("all could be read though there was no space for it")
	}
	for _, d := range diffs {
		if !strings.Contains(d, unix.EIO.Error()) {
			t.Errorf("not an error but wrong bytes: %s", d)
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.readAll(tree, target)
}

// TestUnmountingNeedsNoSpace unmounts while the mount table cannot be written.
func TestUnmountingNeedsNoSpace(t *testing.T) {
	beside(t)
	l := newLab(t)
	l.start()
	target := l.mount(l.layout(l.smallTree(1)), "a")
	table := filepath.Join(l.root, "state", "mounts.json")
	if err := errors.Join(os.Remove(table), os.MkdirAll(filepath.Join(table, "in the way"), 0o755)); err != nil {
		t.Fatal(err)
	}
	l.pagein("umount", target)
	if left, err := os.ReadDir(target); err != nil || len(left) > 0 {
		t.Errorf("still mounted: %v, %v", left, err)
	}
	if s := l.status(); !strings.Contains(s.Problem, table) {
		t.Errorf("the status says %q, want that %s cannot be written", s.Problem, table)
	}
	if err := os.RemoveAll(table); err != nil {
		t.Fatal(err)
	}
	l.waitFor("the mount table to be recorded", func() bool { return l.status().Problem == "" })
	if b, err := os.ReadFile(table); err != nil || strings.Contains(string(b), target) {
		t.Errorf("recorded is %s, %v", b, err)
	}
}

// smallDisk puts the store on a disk of its own, made with further options of mkfs.ext4.
func (l *lab) smallDisk(options ...string) {
	l.Helper()
	mkfs := require.Tool(l, "mkfs.ext4")
	disk := filepath.Join(l.dir, "disk")
	if err := errors.Join(os.Mkdir(l.root, 0o755), os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 96<<20)); err != nil {
		l.Fatal(err)
	}
	for _, args := range [][]string{append(append([]string{mkfs, "-q", "-F"}, options...), disk), {"mount", "-o", "loop", disk, l.root}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			l.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	// Before the disk can be taken away, the daemon must let go of it; the lab's own cleanup comes later.
	l.Cleanup(func() {
		l.unmountAll()
		l.stop(unix.SIGTERM)
		if err := unix.Unmount(l.root, unix.MNT_DETACH); err != nil {
			l.Error(err)
		}
	})
}

// fillDisk takes all space on the store's disk and returns the file that has it.
func (l *lab) fillDisk() string {
	l.Helper()
	f, err := os.Create(filepath.Join(l.root, "filler"))
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	end := int64(0)
	for step := int64(64 << 20); step >= 4096; {
		if err := unix.Fallocate(int(f.Fd()), 0, end, step); err == nil {
			end += step
		} else if errors.Is(err, unix.ENOSPC) {
			step /= 2
		} else {
			l.Fatal(err)
		}
	}
	return f.Name()
}

// TestMistakesAreExplained makes them.
func TestMistakesAreExplained(t *testing.T) {
	beside(t)
	l := newLab(t)
	tree := l.smallTree(1)
	l.start()
	ref := l.layout(tree)
	target := l.mount(ref, "a")
	file := filepath.Join(l.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := l.target("free")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no such layout", []string{"mount", "oci:" + l.dir + "/nowhere", free}, "no such file or directory"},
		{"no such tag", []string{"mount", "oci:" + l.dir + "/layout:other", free}, "not found"},
		{"no such target", []string{"mount", ref, l.dir + "/nowhere"}, "no such file or directory"},
		{"target is a file", []string{"mount", ref, file}, "not a directory"},
		{"target is taken", []string{"mount", ref, target}, "already mounted"},
		{"nothing is mounted", []string{"umount", free}, "nothing there"},
		{"no such registry", []string{"mount", "127.0.0.1:1/app:tag", free}, "connection refused"},
		{"no such transport", []string{"mount", "--transport", "nbd", ref, free}, "nbd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := l.try(c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, %v; want an error that says %q", out, err, c.want)
			}
		})
	}
	t.Run("second daemon", func(t *testing.T) {
		for _, args := range [][]string{
			{"--root", l.root, "--run", l.dir + "/run2", "--address", "unix://" + l.dir + "/sock2"},
			{"--root", l.dir + "/root2", "--run", l.dir + "/run", "--address", "unix://" + l.dir + "/sock2"},
			{"--root", l.dir + "/root2", "--run", l.dir + "/run2", "--address", l.socket()},
		} {
			out, err := exec.Command(filepath.Join(programs, "pageind"), args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "another") {
				t.Errorf("%v: got %v, %s", args, err, out)
			}
		}
		l.readAll(tree, target)
	})
	t.Run("no daemon", func(t *testing.T) {
		l.stop(unix.SIGTERM)
		if _, err := l.try("status"); err == nil || !strings.Contains(err.Error(), "is it running") {
			t.Errorf("got %v", err)
		}
	})
}
