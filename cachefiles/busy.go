package cachefiles

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// BusyError says that other processes have the device or its objects open; the kernel lets only one in.
type BusyError struct {
	Holders []string // "comm (pid)", as far as /proc tells
}

func (e *BusyError) Error() string {
	who := "another process"
	if len(e.Holders) > 0 {
		who = strings.Join(e.Holders, ", ")
	}
	return fmt.Sprintf("%s is in use by %s (cachefilesd, or a second pageind?)", devicePath, who)
}

// whoHolds lists processes that have one of the files open, by what the links in /proc/PID/fd say.
func whoHolds(targets ...string) []string {
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil
	}
	var who []string
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !slices.Contains(targets, target) {
			continue // most are gone or not ours to see
		}
		dir := filepath.Dir(filepath.Dir(link))
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		name := fmt.Sprintf("%s (%s)", strings.TrimSpace(string(comm)), filepath.Base(dir))
		if !slices.Contains(who, name) {
			who = append(who, name)
		}
	}
	return who
}
