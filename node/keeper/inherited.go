package keeper

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstInherited is the number of the first descriptor passed by sd_listen_fds(3): SD_LISTEN_FDS_START.
const firstInherited = 3

// unnamed is what systemd calls descriptors without a name.
const unnamed = "unknown"

// Inherited returns the descriptors that a service manager or supervisor passed to this process at its start (sd_listen_fds(3)), moved to
// numbers of at least floor, and clears the environment variables so that children do not believe in them. Descriptors without a name are
// called [unnamed]. Of several with one name the last is kept. Call it before anything else opens descriptors.
func Inherited(floor int) (map[string]int, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > MaxHeld {
		return nil, fmt.Errorf("take inherited descriptors: LISTEN_FDS=%q is not a number from 0 to %d", count, MaxHeld)
	}
	given := strings.Split(names, ":")
	fds := map[string]int{}
	for i := range n {
		fd := firstInherited + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("take inherited descriptor %d of %d: %w", i+1, n, err)
		}
		name := unnamed
		if i < len(given) && given[i] != "" {
			name = given[i]
		}
		if err := adopt(fds, name, fd, floor); err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("take inherited descriptor %q: %w", name, err)
		}
	}
	return fds, nil
}
