package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/cutdisk"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
	"github.com/pagein/pagein/node/control"
)

// The tests of this package run the real programs against the real kernel: on the host, and in the guests of package vmtests, where other transports are.

// programs is the directory with pagein, pageind and pagein-keeper.
var programs string

func TestMain(m *testing.M) {
	cutdisk.Init()
	os.Exit(func() int {
		if os.Getenv(require.GuestEnv) != "" {
			programs = "/bin"
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "pagein-programs-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir+"/", "../pagein", "../pageind", "../pagein-keeper")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build programs: %v\n%s", err, out)
			return 1
		}
		programs = dir
		return m.Run()
	}())
}

// lab is a daemon with directories of its own, and images to mount.
type lab struct {
	*testing.T
	dir    string
	root   string
	env    []string // of its programs, besides that of the test
	daemon *daemon
}

// daemon is a running pageind.
type daemon struct {
	*os.Process
	ended chan error // gets what it ended with
}

// beside has a test run at the same time as others that may, after all those that may not. In guests none does: they have one /dev/cachefiles. It is for tests that wait more than they work,
// and neither measure anything nor change what they share with others. Containers need names of their own: whatever runs them, their control groups are in one place.
func beside(t *testing.T) {
	t.Helper()
	if os.Getenv(require.GuestEnv) == "" {
		t.Parallel()
	}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	if guest := os.Getenv(require.GuestEnv); guest != "" { // there only this directory is on a disk
		var err error
		if dir, err = os.MkdirTemp(guest, "lab-"); err != nil {
			t.Fatal(err)
		}
	}
	l := &lab{T: t, dir: dir, root: filepath.Join(dir, "root")}
	t.Cleanup(func() {
		l.cleanUp()
		l.waitFor("the kernel to let go of the store", func() bool { // cachefiles does so in the background
			err := os.RemoveAll(dir)
			if err != nil && !errors.Is(err, unix.EBUSY) {
				t.Fatal(err)
			}
			return err == nil
		})
	})
	return l
}

// cleanUp leaves no mount, no process and no blocked reader behind, whatever state the test left.
func (l *lab) cleanUp() {
	if said := l.said(); l.Failed() && said != "" {
		l.Logf("pageind said:\n%s", said[max(0, len(said)-8000):])
	}
	if l.daemon == nil {
		l.start() // to answer whoever waits
	}
	l.unmountAll()
	l.stop(unix.SIGTERM)
	l.waitFor("the keeper to end", func() bool { return len(l.keepers()) == 0 })
}

// unmountAll takes off what is mounted on the lab's targets, and images elsewhere in its directory.
func (l *lab) unmountAll() {
	l.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		l.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if target := f[1]; strings.HasPrefix(target, l.dir+"/mnt") || f[2] == "erofs" && strings.HasPrefix(target, l.dir+"/") {
			if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
				l.Errorf("unmount %s: %v", target, err)
			}
		}
	}
}

// said is what the lab's daemons have logged.
func (l *lab) said() string {
	b, err := os.ReadFile(filepath.Join(l.dir, "log"))
	if err != nil && !errors.Is(err, unix.ENOENT) {
		l.Error(err)
	}
	return string(b)
}

func (l *lab) socket() string { return "unix://" + l.dir + "/sock" }

// start runs a daemon and waits until it serves.
func (l *lab) start(args ...string) {
	l.Helper()
	l.launch(args...)
	l.serving()
}

// launch runs a daemon.
func (l *lab) launch(args ...string) {
	l.Helper()
	cmd := l.command(args...)
	log, err := os.OpenFile(filepath.Join(l.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		l.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	l.run(cmd)
}

// command is a daemon of the lab that does not run yet.
func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(programs, "pageind"),
		append([]string{"--root", l.root, "--run", l.dir + "/run", "--address", l.socket(), "--config", os.DevNull}, args...)...)
	cmd.Env = append(os.Environ(), l.env...)
	return cmd
}

// run has it be the lab's daemon.
func (l *lab) run(cmd *exec.Cmd) {
	l.Helper()
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	l.daemon = &daemon{Process: cmd.Process, ended: make(chan error, 1)}
	go func(d *daemon) { d.ended <- cmd.Wait() }(l.daemon)
}

// serving waits until the daemon's API answers.
func (l *lab) serving() {
	l.Helper()
	client := l.client()
	defer client.Close()
	l.waitFor("pageind to serve", func() bool {
		select {
		case err := <-l.daemon.ended:
			l.daemon.ended <- err
			l.Fatalf("pageind ended with %v", err)
		default:
		}
		return client.Health(context.Background()) == nil
	})
}

// stop ends the daemon with a signal and waits until it is gone.
func (l *lab) stop(sig unix.Signal) {
	l.Helper()
	if err := l.daemon.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		l.Fatal(err)
	}
	err := <-l.daemon.ended
	l.daemon = nil
	if sig != unix.SIGKILL && err != nil {
		l.Errorf("pageind ended with %v", err)
	}
}

// pagein runs a command that must succeed and returns what it prints.
func (l *lab) pagein(args ...string) string {
	l.Helper()
	out, err := l.try(args...)
	if err != nil {
		l.Fatalf("pagein %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// try runs a command and returns what it prints, and as error what it says when it fails.
func (l *lab) try(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(programs, "pagein"), append([]string{"--address", l.socket()}, args...)...)
	var stderr strings.Builder
	cmd.Stderr, cmd.Env = &stderr, append(os.Environ(), l.env...)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// client speaks to the daemon, which takes it a fraction of what a program does that must start first.
func (l *lab) client() *control.Client {
	l.Helper()
	client, err := control.NewClient(l.socket())
	if err != nil {
		l.Fatal(err)
	}
	return client
}

func (l *lab) status() control.Status {
	l.Helper()
	client := l.client()
	defer client.Close()
	s, err := client.Status(context.Background())
	if err != nil {
		l.Fatal(err)
	}
	return s
}

// mount mounts an image on a new directory of that name.
func (l *lab) mount(ref, name string) string {
	l.Helper()
	target := l.target(name)
	l.pagein("mount", ref, target)
	return target
}

func (l *lab) target(name string) string {
	l.Helper()
	target := filepath.Join(l.dir, "mnt-"+name)
	if err := os.Mkdir(target, 0o755); err != nil {
		l.Fatal(err)
	}
	return target
}

// tree makes a random tree with some larger files.
func (l *lab) tree(seed int64) string {
	l.Helper()
	dir := l.source(seed)
	treetest.Random(l, dir, seed)
	return dir
}

// smallTree is for tests that are about the mount and not about what it shows.
func (l *lab) smallTree(seed int64) string {
	l.Helper()
	dir := l.source(seed)
	treetest.Small(l, dir, seed)
	return dir
}

func (l *lab) source(seed int64) string {
	l.Helper()
	dir := filepath.Join(l.dir, fmt.Sprintf("source-%d", seed))
	if err := os.Mkdir(dir, 0o755); err != nil {
		l.Fatal(err)
	}
	return dir
}

// bigFiles makes a tree of files of 3 MiB that do not compress.
func (l *lab) bigFiles(names ...string) string {
	l.Helper()
	dir := filepath.Join(l.dir, "source")
	if err := os.Mkdir(dir, 0o755); err != nil {
		l.Fatal(err)
	}
	rnd := rand.NewChaCha8([32]byte{})
	for _, name := range names {
		b := make([]byte, 3<<20)
		_, _ = rnd.Read(b)
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			l.Fatal(err)
		}
	}
	return dir
}

// sources makes n trees of files of 3 MiB each, named 0, 1 and so on, no two of which are equal.
func (l *lab) sources(n, files int) (trees []string) {
	l.Helper()
	rnd := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 3<<20)
	for range n {
		tree, err := os.MkdirTemp(l.dir, "source-")
		if err == nil {
			err = os.Chmod(tree, 0o755)
		}
		for f := range files {
			_, _ = rnd.Read(b)
			err = errors.Join(err, os.WriteFile(filepath.Join(tree, strconv.Itoa(f)), b, 0o644))
		}
		if err != nil {
			l.Fatal(err)
		}
		trees = append(trees, tree)
	}
	return trees
}

// layout converts a tree into an artifact in an image layout and returns its reference.
func (l *lab) layout(tree string) string {
	l.Helper()
	ref := "oci:" + filepath.Join(l.dir, "layout") + ":" + filepath.Base(tree)
	l.pagein("convert", "dir:"+tree, ref)
	return ref
}

// registry converts a tree into an artifact in a registry that lives as long as the test.
func (l *lab) registry(tree string) string {
	l.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(quiet())))
	l.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/app:" + filepath.Base(tree)
	l.pagein("convert", "dir:"+tree, ref)
	return ref
}

// readAll compares everything in random order with 16 readers, cold.
func (l *lab) readAll(tree, target string) {
	l.Helper()
	erofstest.DropCaches(l)
	treetest.CompareWith(l, tree, target, treetest.Options{Readers: 16, Shuffle: 1})
}

// keepers returns the pids of the lab's keepers.
func (l *lab) keepers() (pids []int) {
	l.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		l.Fatal(err)
	}
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			l.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte("pagein-keeper")) && bytes.Contains(b, []byte(l.dir+"/run/")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			if err != nil {
				l.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// idle waits until nothing is fetched any more, what nobody asked for included, and returns the daemon's state then.
func (l *lab) idle() (s control.Status) {
	l.Helper()
	last, calm := int64(-1), 0
	l.waitFor("the daemon to have nothing to fetch", func() bool {
		s = l.status()
		if s.Totals.InFlight > 0 || s.Totals.BackendBytes != last {
			last, calm = s.Totals.BackendBytes, 0
			return false
		}
		calm++
		return calm == 100
	})
	return s
}

func (l *lab) waitFor(what string, ok func() bool) {
	l.Helper()
	await.True(l, what, ok)
}
