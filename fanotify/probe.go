package fanotify

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/kmount"
)

// Probe finds out whether this kernel can serve blob files in dir: whether it raises pre-content events for them, and whether it mounts EROFS from files.
// What is missing comes as a [*kmount.UnsupportedError].
func Probe(dir string) error {
	group, err := unix.FanotifyInit(unix.FAN_CLASS_PRE_CONTENT|unix.FAN_CLOEXEC|unix.FAN_UNLIMITED_QUEUE, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("probe fanotify: %w: pageind needs CAP_SYS_ADMIN in the initial user namespace: run it as root", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("probe fanotify: %w: too many groups: raise fs.fanotify.max_user_groups", err)
	case err != nil:
		return fmt.Errorf("probe fanotify: %w", err)
	}
	defer unix.Close(group)
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return kmount.ProbeFailed("fanotify", dir, err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	err = unix.FanotifyMark(group, unix.FAN_MARK_ADD, unix.FAN_PRE_ACCESS, int(f.Fd()), "")
	if err != nil {
		return &kmount.UnsupportedError{
			Feature: "fanotify pre-content events in " + dir,
			Needs:   kmount.NeedsDisk(dir, "Linux 6.14 with CONFIG_FANOTIFY_ACCESS_PERMISSIONS"),
			Reason:  fmt.Sprintf("FAN_PRE_ACCESS is refused: %v", err),
		}
	}
	return kmount.ProbeFileBacked(dir)
}
