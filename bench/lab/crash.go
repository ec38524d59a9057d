package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Crash kills the daemon in the middle of whatever it does, and returns when it is gone and when it was killed.
func (n *Node) Crash() (time.Time, error) {
	at := time.Now()
	return at, n.daemon.Kill()
}

// Restart starts the daemon again as it was started, without waiting for anything, and returns when that was.
func (n *Node) Restart(ctx context.Context) (time.Time, error) {
	old := n.daemon.cmd
	at := time.Now()
	daemon, err := StartService(Command(context.WithoutCancel(ctx), old.Path, old.Args[1:]...))
	if err != nil {
		return at, err
	}
	n.daemon = daemon
	return at, nil
}

// PeakMemory is the highest resident size of the running daemon so far, in bytes.
func (n *Node) PeakMemory() (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", n.daemon.cmd.Process.Pid)
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s does not tell the resident size", path)
}
