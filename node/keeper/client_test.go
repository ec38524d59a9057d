package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/require"
)

// testDaemonName as argv[0] makes the test binary a daemon: see testDaemon.
const testDaemonName = "keeper-test-daemon"

// testDaemon attaches to the keeper at socket, gives it a memfd with the given text and the writing end of a pipe with the same text in it,
// says so, and waits to be killed.
func testDaemon(socket, text string) int {
	c, err := Start(context.Background(), Options{Socket: socket, Floor: 100})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	mem, err := unix.MemfdCreate("kept", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Write(mem, []byte(text))
	}
	var pipe [2]int
	err = errors.Join(err, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	_, werr := unix.Write(pipe[1], []byte(text))
	err = errors.Join(err, werr, c.Hold("memfd", mem), c.Hold("pipe", pipe[0]))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	time.Sleep(time.Hour)
	return 0
}

// newOptions returns options for a keeper of the test's own, which is ended with the test.
func newOptions(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	opt := Options{Socket: filepath.Join(dir, "s"), Floor: 300, Binary: "/proc/self/exe", Log: filepath.Join(dir, "log")}
	t.Cleanup(func() {
		if pid := keeperPid(opt.Socket); pid > 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
			for keeperPid(opt.Socket) == pid {
				time.Sleep(time.Millisecond)
			}
		}
		if t.Failed() {
			text, _ := os.ReadFile(opt.Log)
			t.Logf("keeper's log:\n%s", text)
		}
	})
	return opt
}

// keeperPid finds the live keeper at socket by its command line, 0 if there is none.
func keeperPid(socket string) int {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range list {
		line, _ := os.ReadFile(file)
		if strings.HasPrefix(string(line), programName+"\x00--socket\x00"+socket+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}

func start(t *testing.T, opt Options) *Client {
	t.Helper()
	c, err := Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func memfd(t *testing.T, text string) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return fd
}

func content(t *testing.T, fd int) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := unix.Pread(fd, buf, 0)
	if errors.Is(err, unix.ESPIPE) {
		n, err = unix.Read(fd, buf)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func hold(t *testing.T, c *Client, name string, fd int) {
	t.Helper()
	if err := c.Hold(name, fd); err != nil {
		t.Fatal(err)
	}
}

// take attaches a successor and returns what it gets; both end with the test.
func take(t *testing.T, opt Options) map[string]int {
	t.Helper()
	fds := start(t, opt).Take()
	t.Cleanup(func() { closeAll(fds) })
	return fds
}

func waitGone(t *testing.T, socket string) {
	t.Helper()
	await.True(t, "the keeper to end", func() bool { return keeperPid(socket) == 0 })
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestDescriptorsSurviveKillOfTheirDaemon(t *testing.T) {
	opt := newOptions(t)
	first := start(t, opt)
	for round := range 3 {
		text := fmt.Sprint("round ", round)
		cmd := exec.Command("/proc/self/exe", opt.Socket, text)
		cmd.Args[0] = testDaemonName
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := out.Read(buf)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if string(buf[:n]) != "held\n" {
			t.Fatalf("daemon said %q", buf[:n])
		}
		first.Close() // from now on nobody is attached
		fds := take(t, opt)
		if len(fds) != 2 {
			t.Fatalf("got %v", fds)
		}
		for _, name := range []string{"memfd", "pipe"} {
			fd := fds[name]
			if got := content(t, fd); got != text {
				t.Errorf("%s holds %q, want %q", name, got, text)
			}
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if fd < opt.Floor || flags&unix.FD_CLOEXEC == 0 || err != nil {
				t.Errorf("%s is number %d with flags %x (%v), want at least %d and close-on-exec", name, fd, flags, err, opt.Floor)
			}
		}
	}
}

func TestNewDescriptorReplacesTheOldOne(t *testing.T) {
	opt := newOptions(t)
	c := start(t, opt)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	hold(t, c, "x", pipe[1])
	unix.Close(pipe[1])
	if err := readable(pipe[0], 50*time.Millisecond); !errors.Is(err, unix.ETIMEDOUT) {
		t.Fatalf("the pipe's writing end is not held: %v", err)
	}
	hold(t, c, "x", memfd(t, "second"))
	if err := readable(pipe[0], await.Patience); err != nil {
		t.Errorf("the replaced descriptor is still open: %v", err)
	}
	if fds := take(t, opt); len(fds) != 1 || content(t, fds["x"]) != "second" {
		t.Errorf("got back %v", fds)
	}
	if err := c.Release("x"); err != nil {
		t.Error(err)
	}
	if err := c.Release("x"); err != nil {
		t.Errorf("second release: %v", err)
	}
	if fds := take(t, opt); len(fds) != 0 {
		t.Errorf("after release: %v", fds)
	}
}

func TestManyDescriptorsComeBack(t *testing.T) {
	opt := newOptions(t)
	c := start(t, opt)
	const n = 450 // three packets
	fd := memfd(t, "x")
	for i := range n {
		hold(t, c, fmt.Sprintf("%0*d", MaxName, i), fd) // the longest names
	}
	c.Close()
	opt.Floor = 0 // not even moved, they are closed on exec
	fds := take(t, opt)
	if len(fds) != n {
		t.Errorf("%d of %d came back", len(fds), n)
	}
	for name, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Fatalf("descriptor %d, %.10s…, has flags %x (%v)", fd, name, flags, err)
		}
	}
}

func TestRefusalsReachTheHolder(t *testing.T) {
	opt := newOptions(t)
	c := start(t, opt)
	fd := memfd(t, "x")
	for _, name := range []string{"", "a:b", "a\nb", "ä", strings.Repeat("x", MaxName+1)} {
		if err := c.Hold(name, fd); err == nil {
			t.Errorf("name %.20q accepted", name)
		}
	}
	if err := c.Hold(MountsName, fd); err == nil || !strings.Contains(err.Error(), "no inotify instance") {
		t.Errorf("a memfd as %q: %v", MountsName, err)
	}
	hold(t, c, "good", fd)
	if err := c.Hold("bad", -1); err == nil {
		t.Error("a bad descriptor was accepted")
	}
	if fds := take(t, opt); len(fds) != 1 {
		t.Errorf("held: %v", fds)
	}
}

func TestGarbageIsRefusedAndHarmless(t *testing.T) {
	opt := newOptions(t)
	c := start(t, opt)
	hold(t, c, "x", memfd(t, "kept"))
	fd := memfd(t, "garbage")
	many := make([]int, maxRights)
	for i := range many {
		many[i] = fd
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	unix.Close(pipe[1])
	for _, m := range []outgoing{
		{nil, nil},
		{nil, []int{fd}},
		{[]byte(strings.Repeat("x", 100_000)), []int{fd}},
		{storeMessage("x"), nil},
		{storeMessage("x"), many},
		{storeMessage("x:y"), []int{fd}},
		{removeMessage("x"), []int{fd}},
		{attachMessage(), nil},
		{attachMessage(), []int{fd}},
		{barrierMessage(), nil},
		{barrierMessage(), []int{fd}},
		{barrierMessage(), pipe[:1]},
		{[]byte{0, 1, 2, 0xff}, nil},
		{storeMessage(""), []int{fd}},
	} {
		s, err := connect(opt.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if err := send(s, m.data, m.fds, 0); err != nil {
			t.Fatalf("send %.20q: %v", m.data, err)
		}
		unix.Close(s)
	}
	if got := content(t, fd); got != "garbage" {
		t.Errorf("the keeper wrote to a barrier that is no pipe: %q", got)
	}
	// The last grievance of this pid comes with the next barrier, then all is well.
	if err := c.Release("none"); err == nil {
		t.Error("garbage was accepted in silence")
	}
	hold(t, c, "y", fd)
	if fds := take(t, opt); len(fds) != 2 || content(t, fds["x"]) != "kept" {
		t.Errorf("held: %v", fds)
	}
	if n := countFds(t, keeperPid(opt.Socket)); n > 20 {
		t.Errorf("the keeper has %d descriptors open", n)
	}
}

func countFds(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestOtherUsersAreRefused(t *testing.T) {
	require.Root(t)
	opt := newOptions(t)
	c := start(t, opt)
	if st, err := os.Stat(opt.Socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	// Open the doors of the file system: the credentials must do.
	if err := errors.Join(os.Chmod(opt.Socket, 0o777), os.Chmod(filepath.Dir(opt.Socket), 0o777)); err != nil {
		t.Fatal(err)
	}
	hold(t, c, "x", memfd(t, "secret"))
	s, err := connect(opt.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	// Root may claim to be somebody else: SCM_CREDENTIALS with another uid.
	oob := append(unix.UnixRights(pair[1]), unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getpid()), Uid: 65534, Gid: 65534})...)
	if err := unix.Sendmsg(s, attachMessage(), oob, nil, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	if _, err := takeBack(pair[0], 0); !errors.Is(err, ErrAbsent) {
		t.Errorf("a stranger was answered: %v", err)
	}
	log, _ := os.ReadFile(opt.Log)
	if !strings.Contains(string(log), "uid 65534 may not use this keeper") {
		t.Errorf("log: %s", log)
	}
}
