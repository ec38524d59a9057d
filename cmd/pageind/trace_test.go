package main

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/profile"
	"github.com/pagein/pagein/trace"
)

// traceArgs begin a command line that records into a file.
func (l *lab) traceArgs(args ...string) []string {
	return append([]string{"trace", "-o", l.dir + "/trace"}, args...)
}

// traced reads the profile that was recorded: the pages of each file, and the files in the order in which they were touched.
func (l *lab) traced() (p *profile.Profile, pages map[string][]int64, order []string) {
	l.Helper()
	f, err := os.Open(l.dir + "/trace")
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	if p, err = profile.Read(f); err != nil {
		l.Fatal(err)
	}
	pages = make(map[string][]int64)
	for _, e := range p.Entries {
		if pages[e.Path] == nil {
			order = append(order, e.Path)
		}
		for off := e.Off; off < e.Off+e.Len; off += profile.PageSize {
			pages[e.Path] = append(pages[e.Path], off/profile.PageSize)
		}
	}
	for _, l := range pages {
		slices.Sort(l)
	}
	return p, pages, order
}

// canTrace ends the test if nothing can be recorded here.
func (l *lab) canTrace() {
	l.Helper()
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	require.Feature(l, err == nil, "the kernel's types (/sys/kernel/btf/vmlinux)")
}

func TestTraceWritesWhatACommandTouched(t *testing.T) {
	l := newLab(t)
	l.canTrace()
	ref := l.layout(l.bigFiles("a", "b", "c"))
	l.start()
	target := l.mount(ref, "x")
	l.read(target, "c") // by somebody else
	l.pagein(l.traceArgs("--", "sh", "-c", "cd "+target+" && dd if=b bs=4096 skip=10 count=3 of=/dev/null && dd if=a bs=4096 count=1 of=/dev/null && dd if=b bs=4096 skip=200 count=1 of=/dev/null")...)
	p, pages, order := l.traced()
	want := map[string][]int64{"/b": {10, 11, 12, 200}, "/a": {0}}
	if !maps.EqualFunc(pages, want, slices.Equal) || !slices.Equal(order, []string{"/b", "/a"}) {
		t.Errorf("recorded %v in the order %v, want %v", pages, order, want)
	}
	for _, e := range p.Entries {
		if e.Kind != profile.KindRead || e.Size == 0 || e.Time <= 0 || p.Ready != 0 {
			t.Errorf("recorded %+v of %+v", e, p)
		}
	}

	// What is cached is recorded as well; and a command that is ready is ended.
	l.pagein(l.traceArgs("--until", "log:^REA.Y$", "--", "sh", "-c", "dd if="+target+"/b bs=4096 skip=11 count=1 of=/dev/null; echo READY; exec sleep 1000")...)
	p, pages, _ = l.traced()
	if want := map[string][]int64{"/b": {11}}; !maps.EqualFunc(pages, want, slices.Equal) || p.Ready <= p.Entries[0].Time {
		t.Errorf("recorded %v, want %v; ready after %v", pages, want, p.Ready)
	}

	if out, err := l.try(l.traceArgs("--", "true")...); err == nil || !strings.Contains(out+err.Error(), "nothing was touched") {
		t.Errorf("a command that touches nothing: %s, %v", out, err)
	}
	if out, err := l.try(l.traceArgs("--until", "port:80", "--", "sh", "-c", "cat "+target+"/a > /dev/null; exit 7")...); err == nil || !strings.Contains(out+err.Error(), "before the workload was ready") {
		t.Errorf("a command that fails: %s, %v", out, err)
	}
	for _, b := range l.status().Images[0].Backings {
		if ahead, err := os.ReadFile(filepath.Join("/sys/class/bdi", b, "read_ahead_kb")); err != nil || strings.TrimSpace(string(ahead)) == "0" {
			t.Errorf("read-ahead stays at %s, %v", ahead, err)
		}
	}
}

// container is a process in a control group of its own, which reads files when it is told to.
type container struct {
	*lab
	cmd *exec.Cmd
	in  io.WriteCloser
}

// container starts one that is named after an ID, as the runtimes of containers do. It does not end before the test.
func (l *lab) container(id string) *container {
	l.Helper()
	root := trace.CgroupRoot()
	require.Feature(l, root != "", "a mounted cgroup2")
	dir := filepath.Join(root, "test-"+id+".scope")
	if err := os.Mkdir(dir, 0o755); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		l.waitFor("the control group to be free", func() bool { return !errors.Is(os.Remove(dir), unix.EBUSY) })
	})
	cmd := exec.Command("sh")
	in, err := cmd.StdinPipe()
	if err != nil {
		l.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			l.Errorf("a container ended with %v", err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.AppendInt(nil, int64(cmd.Process.Pid), 10), 0); err != nil {
		l.Fatal(err)
	}
	return &container{l, cmd, in}
}

// reads has the container read a file.
func (c *container) reads(path string) {
	c.Helper()
	if _, err := io.WriteString(c.in, "cat "+path+" > /dev/null\n"); err != nil {
		c.Fatal(err)
	}
}

// recording starts pagein trace and waits until it records. What is returned signals it, unless sig is 0, and waits for its end; it returns what it said.
func (l *lab) recording(args ...string) (end func(sig unix.Signal) string) {
	l.Helper()
	cmd := exec.Command(filepath.Join(programs, "pagein"), append([]string{"--address", l.socket()}, l.traceArgs(args...)...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		l.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	said := ""
	for !strings.Contains(said, "recording") {
		line, err := lines.ReadString('\n')
		said += line
		if err != nil {
			_ = cmd.Wait()
			l.Fatalf("pagein trace ended: %v: %s", err, said)
		}
	}
	return func(sig unix.Signal) string {
		l.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			l.Fatal(err)
		}
		rest, _ := io.ReadAll(lines)
		if err := cmd.Wait(); err != nil {
			l.Fatalf("pagein trace: %v: %s", err, rest)
		}
		return said + string(rest)
	}
}

func TestTraceRecordsARunningContainerAlone(t *testing.T) {
	l := newLab(t)
	l.canTrace()
	ref := l.layout(l.bigFiles("a", "b", "c"))
	l.start()
	target := l.mount(ref, "x")
	const id = "0123456789abcdef0123456789abcdef"
	this, other := l.container(id), l.container("fedcba98765432100123456789abcdef")
	end := l.recording("--container", id[:12], "--until", "exec:test -e "+l.dir+"/ready")
	other.reads(target + "/b")
	this.reads(target + "/a; touch " + l.dir + "/ready; :")
	end(0)
	p, pages, _ := l.traced()
	if len(pages) != 1 || len(pages["/a"]) == 0 || p.Ready <= 0 {
		t.Errorf("recorded %v, ready after %v", pages, p.Ready)
	}
}

func TestTraceRecordsTheNextContainerOfAnImage(t *testing.T) {
	l := newLab(t)
	l.canTrace()
	refs := make([]string, 2)
	for i, tree := range l.sources(2, 2) {
		refs[i] = filepath.Join(l.dir, "layout"+strconv.Itoa(i))
		l.pagein("convert", "dir:"+tree, "oci:"+refs[i]+":x")
		refs[i] = "oci:" + refs[i] + ":x"
	}
	l.start()
	old := l.container("00000000000000000000000000000000")
	unrelated := l.mount(refs[1], "other")
	target := l.mount(refs[0], "x")
	end := l.recording("--image", refs[0], "--until", "exec:test -e "+l.dir+"/ready")
	old.reads(target + "/1")
	next := l.container("11111111111111111111111111111111")
	next.reads(unrelated + "/0")
	next.reads(target + "/0; touch " + l.dir + "/ready; :")
	if said := end(0); !strings.Contains(said, ", once a container of "+refs[0]+" starts; Ctrl-C ends it") {
		t.Errorf("it does not say what it waits for: %s", said)
	}
	if _, pages, _ := l.traced(); len(pages) != 1 || len(pages["/0"]) == 0 {
		t.Errorf("recorded %v", pages)
	}
}

func TestTraceRecordsContainersOfContainerd(t *testing.T) {
	r := newRuntimeLab(t)
	r.canTrace()
	image := r.push("app", r.layers...)
	r.pagein("convert", "--quiet", image)
	r.pull(image)
	end := r.recording("--image", image)
	shared := r.TempDir()
	r.Ctr("run", "-d", "--snapshotter", "pagein", "--mount", "type=bind,src="+shared+",dst=/shared,options=rbind:rw", image, "next-1234567890",
		"/bin/busybox", "sh", "-c", "/bin/busybox touch /shared/runs; exec /bin/busybox sleep 1000")
	r.waitFor("the container to run", func() bool { _, err := os.Stat(filepath.Join(shared, "runs")); return err == nil })
	said := end(unix.SIGTERM)
	p, pages, order := r.traced()
	if len(order) == 0 || order[0] != "/bin/busybox" || pages["/data/random"] != nil || p.Subject == "" || p.Entries[0].Digest == (profile.Digest{}) {
		t.Errorf("the next container: %v of %q in the order %v: %s", pages, p.Subject, order, said)
	}
	end = r.recording("--container", "next-1234567890")
	r.Ctr("tasks", "exec", "--exec-id", "x", "next-1234567890", "/bin/busybox", "cat", "/three")
	said = end(unix.SIGINT)
	if _, pages, _ := r.traced(); !slices.Equal(pages["/three"], []int64{0}) || pages["/data/random"] != nil {
		t.Errorf("a running container: %v: %s", pages, said)
	}
}

func TestWithoutProbesTraceTakesWhatTheDaemonWasAskedFor(t *testing.T) {
	l := newLab(t)
	ref := l.layout(l.bigFiles(enoughFiles...))
	l.start()
	target := l.mount(ref, "x")
	l.read(target, "a") // before
	args := l.traceArgs("--probe", "misses", "--until", "exec:test -e "+l.dir+"/ready")
	l.pagein(append(args, "--", "sh", "-c", "cat "+target+"/c "+target+"/a > /dev/null; touch "+l.dir+"/ready; exec sleep 1000")...)
	p, pages, order := l.traced()
	least := 10
	if l.status().Images[0].Transport != "fanotify" { // the kernel does not ask for what was fetched ahead
		least = 1
	}
	if !slices.Equal(order, []string{"/c"}) || len(pages["/c"]) < least || p.Entries[0].Kind != profile.KindMiss || p.Entries[0].Time <= 0 || p.Ready <= p.Entries[0].Time {
		t.Errorf("recorded %v in the order %v, ready after %v", pages, order, p.Ready)
	}
	if p.Entries[0].Digest == (profile.Digest{}) {
		t.Errorf("there are no digests: %+v", p.Entries[0])
	}
	if out, err := l.try(l.traceArgs("--probe", "misses", "--", "cat", target+"/a")...); err == nil || !strings.Contains(err.Error(), "asked pageind for nothing") {
		t.Errorf("a command that reads what is cached: %s, %v", out, err)
	}
	if os.Getenv(require.GuestEnv) != "" { // where there is no setpriv
		return
	}
	// Who may not load programs gets the same without asking, and is told.
	args = append([]string{"--bounding-set=-sys_admin,-bpf,-perfmon", filepath.Join(programs, "pagein"), "--address", l.socket()}, l.traceArgs("--", "cat", target+"/b")...)
	out, err := exec.Command(require.Tool(t, "setpriv"), args...).CombinedOutput()
	if _, _, order := l.traced(); err != nil || !strings.Contains(string(out), "no probe works") || !slices.Equal(order, []string{"/b"}) {
		t.Errorf("without the right to load programs: recorded %v, %v: %s", order, err, out)
	}
}
