package kmount

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// direct is EROFS's option to read the files it is mounted from past their page cache (Linux 6.14). Without it the kernel keeps two copies of what it reads, and each read that has to
// wait for the disk is handed to a kernel thread: EROFS submits it under a plug of its own, so the disk's request is not issued until the reader sleeps, and is then left to kblockd.
const direct = "directio"

// DirectIsSound reports whether EROFS can be asked to read past the page cache on this machine. The option is known for longer than it can be used: a request could be freed while it was still
// used, which 1caf50ce4af0 "erofs: fix UAF issue for file-backed mounts w/ directio option" ended in 6.12.72, 6.18.11 and 7.0. No probe can find that out.
func DirectIsSound() bool {
	var name unix.Utsname
	return unix.Uname(&name) == nil && soundRelease(unix.ByteSliceToString(name.Release[:]))
}

// soundRelease says so of a kernel release. Where it does not say which stable release a distribution's kernel is made from, it is not.
func soundRelease(release string) bool {
	text, _, _ := strings.Cut(release, "-")
	var v [3]int
	for i, part := range strings.SplitN(text, ".", len(v)) {
		digits := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if digits >= 0 {
			part = part[:digits]
		}
		n, err := strconv.Atoi(part)
		if err != nil {
			return false
		}
		v[i] = n
	}
	switch {
	case v[0] == 6 && v[1] == 12:
		return v[2] >= 72
	case v[0] == 6 && v[1] == 18:
		return v[2] >= 11
	}
	return v[0] >= 7
}

// ReadsDirectly reports whether the superblock reads its files past the page cache.
func (i Info) ReadsDirectly() bool {
	return slices.Contains(strings.Split(i.SuperOptions, ","), direct)
}

// ReadDirectly has the superblock that is mounted as m says, and was made by [Open], read its files past their page cache from now on. Nobody else may want to be told of its reads:
// one may end after the kernel has said that it is over. m must be the topmost mount at its target. It asks for nothing that is in the image.
func ReadDirectly(m Info) error {
	fd, err := unix.Open(m.Target, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open "+m.Target, err, nil)
	}
	d := &Detached{fd: fd, name: "mount on " + m.Target}
	err = d.shows(m.Device)
	if err == nil {
		err = d.ReadDirectly()
	}
	return errors.Join(err, d.Close())
}

// ReadDirectly is the function of that name for a mount that is attached nowhere yet.
func (d *Detached) ReadDirectly() error {
	fd, err := unix.Fspick(d.fd, "", unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, failed("fspick", err, nil))
	}
	c := &fsContext{fd}
	defer c.close()
	if err := unix.FsconfigSetFlag(c.fd, direct); err != nil {
		return fmt.Errorf("%s: %w", d.name, failed("fsconfig "+direct, err, c.messages()))
	}
	if err := unix.FsconfigReconfigure(c.fd); err != nil {
		return fmt.Errorf("%s: %w", d.name, failed("fsconfig reconfigure", err, c.messages()))
	}
	return nil
}

// DiskReadAhead is how far the kernel reads ahead, in KiB, in files on the disk that a path is on.
func DiskReadAhead(path string) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("find the disk of %s: %w", path, err)
	}
	disk := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	var errs error
	for _, dir := range []string{disk, disk + "/.."} { // a partition lies below its disk; disk is a link, which filepath.Join does not know
		kib, err := readNumber(dir + "/queue/read_ahead_kb")
		if err == nil {
			return kib, nil
		}
		errs = errors.Join(errs, err)
	}
	return 0, errs
}

// readNumber reads a file of the kernel's that holds one number.
func readNumber(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", file, err)
	}
	return n, nil
}
