package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// TestTheDaemonKeepsOnlyWhatItNeeds looks at the capabilities of each thread of daemon and keeper while an image is mounted and read.
func TestTheDaemonKeepsOnlyWhatItNeeds(t *testing.T) {
	l := newLab(t)
	tree := l.bigFiles("a")
	l.start()
	l.readAll(tree, l.mount(l.layout(tree), "a"))
	var all uint64
	for _, c := range needed() {
		all |= 1 << c
	}
	for what, pid := range map[string]int{"pageind": l.daemon.Pid, "pagein-keeper": l.keepers()[0]} {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, task.Name()))
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(status)) {
				var has uint64
				name, value, _ := strings.Cut(line, ":")
				switch name {
				case "CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb":
					if _, err := fmt.Sscanf(value, "%x", &has); err != nil || has&^all != 0 {
						t.Errorf("%s: %s is %#x (%v), only %#x is needed", what, name, has, err, all)
					}
				case "NoNewPrivs":
					if strings.TrimSpace(value) != "1" {
						t.Errorf("%s: NoNewPrivs is %s", what, value)
					}
				}
			}
		}
	}
}

// TestTheUnitGrantsWhatIsNeeded compares the systemd unit with what the daemon keeps; it needs one more to give up the rest.
func TestTheUnitGrantsWhatIsNeeded(t *testing.T) {
	unit, err := os.ReadFile("../../dist/systemd/pageind.service")
	if os.Getenv(require.GuestEnv) != "" && err != nil {
		t.Skip("the guests have no units")
	} else if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(unit), "\nCapabilityBoundingSet=")
	line, _, _ := strings.Cut(rest, "\n")
	names := map[string]int{
		"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "CAP_IPC_LOCK": unix.CAP_IPC_LOCK,
		"CAP_CHOWN": unix.CAP_CHOWN, "CAP_FOWNER": unix.CAP_FOWNER, "CAP_FSETID": unix.CAP_FSETID, "CAP_MKNOD": unix.CAP_MKNOD, "CAP_SETFCAP": unix.CAP_SETFCAP, "CAP_SETPCAP": unix.CAP_SETPCAP,
	}
	var granted []int
	for name := range strings.FieldsSeq(line) {
		c, known := names[name]
		if !known {
			t.Errorf("the unit grants %s", name)
		}
		granted = append(granted, c)
	}
	want := append(needed(), unix.CAP_SETPCAP)
	slices.Sort(granted)
	slices.Sort(want)
	if !found || !slices.Equal(granted, want) {
		t.Errorf("the unit grants %v, needed are %v", granted, want)
	}
}
