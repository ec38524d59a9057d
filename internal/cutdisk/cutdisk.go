// Package cutdisk gives tests a disk whose power can be cut, at any moment and as often as they like: a cut is an image of what the disk would hold after it, while the
// disk itself goes on. Its sectors can go bad, too.
//
// The disk is a file that a process of its own serves through FUSE, to be mounted through a loop device. It keeps what was flushed, and of what was not, each cut loses some
// writes, keeps others and tears a few, sector by sector.
package cutdisk

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// environment says to the test's own program that it is to serve a disk: a file with its content, then a directory.
const environment = "PAGEIN_CUTDISK"

// Init must be the first that a package's TestMain calls: the server of a disk is the test's own program, run once more, and then Init does not return.
func Init() {
	image, dir, ok := strings.Cut(os.Getenv(environment), " ")
	if !ok {
		return
	}
	if err := serve(dir, image); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Disk is a disk with a file system, mounted at Dir.
type Disk struct {
	Dir string

	fstype  string
	command io.Writer
	answer  *bufio.Scanner
}

// New makes a disk with a file system, "ext4", "xfs" or "btrfs", and mounts it. The test's end takes it away.
func New(t testing.TB, fstype string) *Disk {
	t.Helper()
	require.Root(t)
	mkfs := require.Tool(t, "mkfs."+fstype)
	require.Feature(t, exists("/dev/fuse") && exists("/dev/loop-control"), "FUSE and loop devices")
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 320<<20); err != nil { // XFS takes no less than 300 MB
		t.Fatal(err)
	}
	args := map[string][]string{
		// The kernel must not go on for minutes with writes that have nothing to do with the test.
		"ext4":  {"-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=8"},
		"xfs":   {"-q", "-f"},
		"btrfs": {"-q", "-f"},
	}[fstype]
	run(t, mkfs, append(args, image)...)
	d, served := &Disk{Dir: t.TempDir(), fstype: fstype}, t.TempDir()
	d.start(t, served, image)
	mount(t, fstype, filepath.Join(served, fileName), d.Dir)
	return d
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// start starts the server.
func (d *Disk) start(t testing.TB, dir, image string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), environment+"="+image+" "+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = in.Close() // tells it to end
		if err := cmd.Wait(); err != nil {
			t.Errorf("server of the disk: %v", err)
		}
	})
	d.command, d.answer = in, bufio.NewScanner(out)
	d.expect(t)
}

// ask tells the server what to do, and returns its answer.
func (d *Disk) ask(t testing.TB, format string, arg any) string {
	t.Helper()
	if _, err := fmt.Fprintf(d.command, format+"\n", arg); err != nil {
		t.Fatal(err)
	}
	return d.expect(t)
}

func (d *Disk) expect(t testing.TB) string {
	t.Helper()
	if !d.answer.Scan() || !strings.HasPrefix(d.answer.Text(), "ok") {
		t.Fatalf("server of the disk answers %q, %v", d.answer.Text(), d.answer.Err())
	}
	return strings.TrimPrefix(d.answer.Text(), "ok ")
}

// Cut is what a power cut left.
type Cut struct {
	Dir    string // where Mount mounts the disk
	Cached int    // writes that the disk had not flushed

	disk  *Disk
	image string
	t     testing.TB
}

// Cut takes down what a power cut at this moment could leave. The seed decides what of the unflushed writes is there. One goroutine at a time may call it and Mount, which must come before the next Cut.
func (d *Disk) Cut(t testing.TB, seed uint64) *Cut {
	t.Helper()
	dir := t.TempDir()
	c := &Cut{Dir: filepath.Join(dir, "mnt"), disk: d, image: filepath.Join(dir, "image"), t: t}
	var err error
	if c.Cached, err = strconv.Atoi(d.ask(t, "cut %d", seed)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Mount mounts what the cut left, its journal replayed. The test's end unmounts it, too.
func (c *Cut) Mount() {
	c.t.Helper()
	c.disk.ask(c.t, "save %q", c.image)
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	mount(c.t, c.disk.fstype, c.image, c.Dir)
}

// Spoil has the disk fail to read every sector that has a text in it, until the sector is written again. What the kernel has cached stays. One goroutine at a time may call it.
func (d *Disk) Spoil(t testing.TB, text string) {
	t.Helper()
	if n := d.ask(t, "spoil %q", text); n == "0" {
		t.Fatalf("no sector has %q in it", text)
	}
}

// Close unmounts and removes the image.
func (c *Cut) Close() {
	c.t.Helper()
	if err := unix.Unmount(c.Dir, 0); err != nil {
		c.t.Errorf("unmount %s: %v", c.Dir, err)
	}
	if err := os.Remove(c.image); err != nil {
		c.t.Error(err)
	}
}

// mount mounts a file with a file system until the test's end.
func mount(t testing.TB, fstype, image, dir string) {
	t.Helper()
	options := "loop"
	if fstype == "xfs" {
		options += ",nouuid" // the disk is mounted beside its images
	}
	run(t, require.Tool(t, "mount"), "-t", fstype, "-o", options, image, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it may be gone
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
