package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
