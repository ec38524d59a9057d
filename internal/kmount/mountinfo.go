package kmount

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Info is one line of /proc/self/mountinfo (proc(5)), unescaped.
type Info struct {
	ID, Parent   int
	Device       string // "major:minor" of the superblock: the same for all bind mounts of it
	Root         string // the directory of the file system that appears at Target
	Target       string
	Options      string // of the mount
	Type         string // "erofs"
	Source       string
	SuperOptions string // of the superblock: "ro,fsid=…,domain_id=…"
}

// Option returns the value of one of the superblock's options, "" if it has none.
func (i Info) Option(name string) string {
	for o := range strings.SplitSeq(i.SuperOptions, ",") {
		if v, ok := strings.CutPrefix(o, name+"="); ok {
			return v
		}
	}
	return ""
}

// Lookup returns the topmost mount on target, and whether target is a mount point at all. Symlinks before the last component are followed.
// It asks the kernel for nothing but cached attributes, so a mount that nobody serves does not block it.
func Lookup(target string) (Info, bool, error) {
	var st unix.Statx_t
	const flags = unix.AT_NO_AUTOMOUNT | unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_DONT_SYNC
	err := unix.Statx(unix.AT_FDCWD, target, flags, unix.STATX_MNT_ID, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return Info{}, false, nil
	}
	if err != nil {
		return Info{}, false, fmt.Errorf("look up the mount at %s: %w", target, err)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return Info{}, false, nil
	}
	all, err := mounts()
	if err != nil {
		return Info{}, false, err
	}
	for _, m := range all {
		if uint64(m.ID) == st.Mnt_id {
			return m, true, nil
		}
	}
	return Info{}, false, nil // unmounted in between
}

// List returns the EROFS mounts of this mount namespace in the kernel's order.
func List() ([]Info, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var list []Info
	for _, m := range all {
		if m.Type == "erofs" {
			list = append(list, m)
		}
	}
	return list, nil
}

func mounts() ([]Info, error) {
	const file = "/proc/self/mountinfo"
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var all []Info
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	for lines.Scan() {
		m, err := parseLine(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("list mounts: %s: %w", file, err)
		}
		all = append(all, m)
	}
	return all, lines.Err()
}

// parseLine reads "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"; the fields before the hyphen vary in number.
func parseLine(line string) (Info, error) {
	front, back, ok := strings.Cut(line, " - ")
	f, b := strings.Split(front, " "), strings.Split(back, " ")
	if !ok || len(f) < 6 || len(b) < 3 {
		return Info{}, fmt.Errorf("malformed line %q", line)
	}
	id, err := strconv.Atoi(f[0])
	if err != nil {
		return Info{}, fmt.Errorf("malformed line %q: %w", line, err)
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return Info{}, fmt.Errorf("malformed line %q: %w", line, err)
	}
	return Info{
		ID: id, Parent: parent, Device: f[2], Root: unescape(f[3]), Target: unescape(f[4]), Options: f[5],
		Type: unescape(b[0]), Source: unescape(b[1]), SuperOptions: unescape(b[2]),
	}, nil
}

// unescape turns the kernel's \ooo (mangle and seq_escape in fs/proc_namespace.c) back into bytes; any other backslash stays.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
