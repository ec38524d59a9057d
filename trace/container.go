package trace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Container is a running container.
type Container struct {
	Processes []int  // that it has now, in numerical order
	Cgroup    string // the directory of its control group of version 2; "" if it has none of its own
}

// minPrefix is how many letters of a container's ID are enough, as tools print so many.
const minPrefix = 12

// FindContainer finds a running container by its ID, which is part of the names of its control groups, whoever made them (runc, containerd, CRI, Docker, Podman, systemd).
func FindContainer(id string) (Container, error) {
	if id == "" || strings.Contains(id, "/") {
		return Container{}, fmt.Errorf("find the container %q: that is no ID", id)
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return Container{}, fmt.Errorf("find the container %s: %w", id, err)
	}
	root := CgroupRoot()
	var c Container
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		groups, err := os.ReadFile(filepath.Join("/proc", d.Name(), "cgroup"))
		if err != nil {
			continue // it has just ended
		}
		in, unified := membership(string(groups), id)
		if !in {
			continue
		}
		c.Processes = append(c.Processes, pid)
		if unified != "" && root != "" && c.Cgroup == "" {
			if dir := filepath.Join(root, unified); isDir(dir) {
				c.Cgroup = dir
			}
		}
	}
	if c.Processes == nil {
		return Container{}, fmt.Errorf("find the container %s: no process is in a control group of that name", id)
	}
	slices.Sort(c.Processes)
	return c, nil
}

// membership says whether a process is in a control group that is named after a container, by its /proc/PID/cgroup (cgroups(7)), and the path of that group in the unified hierarchy, if it is there.
func membership(groups, id string) (in bool, unified string) {
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		path := ""
		for part := range strings.SplitSeq(strings.Trim(fields[2], "/"), "/") {
			path += "/" + part
			if names(part, id) {
				in = true
				if fields[0] == "0" {
					unified = path
				}
				break
			}
		}
	}
	return in, unified
}

// names says whether a control group's name is that of a container: its ID, perhaps as systemd's scope with a prefix (cri-containerd-ID.scope) or in its
// notation (slice:prefix:ID), or begins with it, if that is long enough to be unique.
func names(group, id string) bool {
	group = strings.TrimSuffix(group, ".scope")
	if group == id {
		return true
	}
	for _, separator := range []string{"-", ":"} {
		if strings.HasSuffix(group, separator+id) {
			return true
		}
		if i := strings.LastIndex(group, separator); i >= 0 && len(id) >= minPrefix && strings.HasPrefix(group[i+1:], id) {
			return true
		}
	}
	return len(id) >= minPrefix && strings.HasPrefix(group, id)
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// CgroupRoot is where control groups of version 2 are mounted, "" if nowhere.
func CgroupRoot() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	return ""
}

// Cgroups returns the numbers of all control groups of version 2 that are there now, as bpf.Touch has them. Without version 2 there are none.
func Cgroups() (map[uint64]bool, error) {
	groups := make(map[uint64]bool)
	root := CgroupRoot()
	if root == "" {
		return groups, nil
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has just ended
		}
		if err != nil || !d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			groups[st.Ino] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list control groups: %w", err)
	}
	return groups, nil
}
