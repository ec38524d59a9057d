package keeper

import (
	"fmt"
	"os"
	"os/exec"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// testHeirName as argv[0] makes the test binary a process that inherits descriptors: see testHeir.
const testHeirName = "keeper-test-heir"

// testHeir prints what it has inherited.
func testHeir() int {
	fds, err := Inherited(50)
	if err != nil {
		fmt.Println("error:", err)
		return 0
	}
	var names []string
	for name, fd := range fds {
		buf := make([]byte, 100)
		n, err := unix.Pread(fd, buf, 0)
		flags, ferr := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || ferr != nil || fd < 50 || flags&unix.FD_CLOEXEC == 0 {
			fmt.Println("error: descriptor", fd, flags, err, ferr)
			return 0
		}
		names = append(names, fmt.Sprintf("%s=%s", name, buf[:n]))
	}
	sort.Strings(names)
	fmt.Println(strings.Join(names, " ") + "; left in the environment: " + os.Getenv("LISTEN_FDS") + os.Getenv("LISTEN_PID") + os.Getenv("LISTEN_FDNAMES"))
	return 0
}

func TestInheritedDescriptorsAreTaken(t *testing.T) {
	var files []*os.File
	for _, text := range []string{"one", "two", "three"} {
		// A duplicate: what an os.File owns is closed by it, whenever that may be, and by nobody else.
		fd, err := unix.FcntlInt(uintptr(memfd(t, text)), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, os.NewFile(uintptr(fd), text))
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, c := range []struct {
		name, env, want string
	}{
		{"named", "LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=a:b:c", "a=one b=two c=three; left in the environment: "},
		{"one name twice: the last counts", "LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=a:b:a", "a=three b=two; left in the environment: "},
		{"without names", "LISTEN_PID=$$ LISTEN_FDS=1", "unknown=one; left in the environment: "},
		{"meant for somebody else", "LISTEN_PID=1 LISTEN_FDS=3 LISTEN_FDNAMES=a:b:c", "; left in the environment: "},
		{"none", "X=1", "; left in the environment: "},
		{"nonsense", "LISTEN_PID=$$ LISTEN_FDS=-1", "error: take inherited descriptors: LISTEN_FDS=\"-1\" is not a number"},
		{"more than there are", "LISTEN_PID=$$ LISTEN_FDS=1000", "error: take inherited descriptor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// LISTEN_PID must be the heir's own: the shell knows its pid and keeps it over exec.
			cmd := exec.Command("bash", "-c", "export "+c.env+"; exec -a "+testHeirName+" /proc/"+fmt.Sprint(os.Getpid())+"/exe")
			cmd.ExtraFiles = files
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), c.want) {
				t.Errorf("got %q (%v), want %q", out, err, c.want)
			}
		})
	}
}
