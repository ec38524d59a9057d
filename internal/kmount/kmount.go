// Package kmount mounts EROFS with fsopen, fsconfig, fsmount and move_mount, in a child process.
//
// The child is there because a mount over fscache or fanotify waits for an answer that the calling daemon itself must give: a mount(2) in
// the daemon could wedge it, and a stuck child can be left behind. The new mount API is used because the option string of mount(2) ends at
// 4 KiB, which is too short for the paths of 50 devices.
//
// The child is the calling program itself, started anew: a program that mounts calls [Init] first thing in main, and tests in TestMain.
package kmount

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// EROFS says how to mount one EROFS image. Either Fsid is set (EROFS over fscache) or Source is a file.
type EROFS struct {
	Source  string   // metadata image: a regular file; over fscache only a label that shows in /proc/mounts
	Devices []string // files for the extra devices, in slot order (not over fscache: there the device table's tags are the names)
	Fsid    string   // over fscache: name of the metadata cookie
	Domain  string   // over fscache: name of the domain whose mounts share blobs
}

// String names the image for messages.
func (s EROFS) String() string {
	if s.Fsid == "" {
		return s.Source
	}
	if s.Domain == "" {
		return "fsid " + s.Fsid
	}
	return "fsid " + s.Fsid + " in domain " + s.Domain
}

func (s EROFS) validate() error {
	switch {
	case s.Fsid == "" && s.Source == "":
		return fmt.Errorf("mount EROFS: neither a source file nor an fsid is given")
	case s.Fsid == "" && s.Domain != "":
		return fmt.Errorf("mount EROFS %s: a domain needs an fsid", s)
	case s.Fsid != "" && len(s.Devices) > 0:
		return fmt.Errorf("mount EROFS %s: over fscache the image's device table names the devices", s)
	}
	return nil
}

// Mount mounts the image read-only on the directory target. When ctx ends first, the child is killed and ctx's error returned; a child
// that cannot be killed, because the kernel waits uninterruptibly for a daemon's answer, is left behind and attaches nothing any more.
// A refusal by the kernel is an [*Error]. Concurrent calls are fine.
func Mount(ctx context.Context, spec EROFS, target string) error {
	if err := spec.validate(); err != nil {
		return err
	}
	target, err := directory(target)
	if err != nil {
		return fmt.Errorf("mount EROFS %s: %w", spec, err)
	}
	if spec.Source != "" && spec.Fsid == "" {
		if spec.Source, err = filepath.Abs(spec.Source); err != nil {
			return fmt.Errorf("mount EROFS %s: %w", spec, err)
		}
	}
	if err := inChild(ctx, task{Mount: &spec, Target: target}); err != nil {
		return fmt.Errorf("mount EROFS %s on %s: %w", spec, target, err)
	}
	return nil
}

// Bind makes what is at from, a mount point or any directory, appear at the directory target too. It obeys ctx as [Mount] does.
func Bind(ctx context.Context, from, target string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	target, err = directory(target)
	if err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	if err := inChild(ctx, task{Bind: from, Target: target}); err != nil {
		return fmt.Errorf("bind %s on %s: %w", from, target, err)
	}
	return nil
}

// Unmount takes the topmost mount off target. Flags are umount2's, such as unix.MNT_DETACH; symlinks are never followed in the last
// component. The error wraps the errno: unix.EINVAL when nothing is mounted there, unix.EBUSY when it is in use.
func Unmount(target string, flags int) error {
	if err := unix.Unmount(target, flags|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

// directory returns the absolute path of an existing directory.
func directory(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path, err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return abs, err
	}
	if !st.IsDir() {
		return abs, &os.PathError{Op: "mount on", Path: abs, Err: unix.ENOTDIR}
	}
	return abs, nil
}
