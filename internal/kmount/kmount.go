// Package kmount mounts EROFS with fsopen, fsconfig and fsmount, in a child process, and attaches the mounts with move_mount.
//
// The child is there because a mount over fscache or fanotify waits for an answer that the calling daemon itself must give: a mount(2) in
// the daemon could wedge it, and a stuck child can be left behind. The new mount API is used because the option string of mount(2) ends at
// 4 KiB, which is too short for the paths of 50 devices.
//
// The child is the calling program itself, started anew: a program that mounts calls [Init] first thing in main, and tests in TestMain.
package kmount

import (
	"context"
	"errors"
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

// Detached is a mount that is attached nowhere yet, so that nobody sees it. It goes with Close, unless Attach has succeeded.
type Detached struct {
	fd      int
	name    string
	backing Backing
}

// Open makes a read-only mount of the image. When ctx ends first, the child is killed and ctx's error returned; a child
// that cannot be killed, because the kernel waits uninterruptibly for a daemon's answer, is left behind. A refusal by the kernel is an
// [*Error]. Concurrent calls are fine.
func Open(ctx context.Context, spec EROFS) (*Detached, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	if spec.Source != "" && spec.Fsid == "" {
		source, err := filepath.Abs(spec.Source)
		if err != nil {
			return nil, fmt.Errorf("mount EROFS %s: %w", spec, err)
		}
		spec.Source = source
	}
	d, err := inChild(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("mount EROFS %s: %w", spec, err)
	}
	d.name = "EROFS " + spec.String()
	return d, nil
}

// Backing is what the superblock reads through, "" if that is not known: it was not made by [Open], or others mounted so much at that moment that it could not be told.
func (d *Detached) Backing() Backing { return d.backing }

// Clone makes another mount of the superblock that is mounted as m says, which must be the topmost mount at its target.
func Clone(m Info) (*Detached, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Target, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, failed("open_tree "+m.Target, err, nil)
	}
	d := &Detached{fd: fd, name: "bind mount of " + m.Target}
	if err := d.shows(m.Device); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// shows fails unless the mount is of the superblock with that device number.
func (d *Detached) shows(device string) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	if found := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)); found != device {
		return fmt.Errorf("%s: device %s is mounted there, not %s", d.name, found, device)
	}
	return nil
}

// Path names the mount's root for system calls of this process, until Close.
func (d *Detached) Path() string { return fmt.Sprintf("/proc/self/fd/%d", d.fd) }

// Attach makes the mount appear at the directory target.
func (d *Detached) Attach(target string) error {
	target, err := directory(target)
	if err != nil {
		return fmt.Errorf("mount %s: %w", d.name, err)
	}
	if err := unix.MoveMount(d.fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s on %s: %w", d.name, target, failed("move_mount", err, nil))
	}
	return nil
}

// Close gives the descriptor back. A mount that was attached stays.
func (d *Detached) Close() error { return unix.Close(d.fd) }

// Mount is [Open] and [Detached.Attach] in one.
func Mount(ctx context.Context, spec EROFS, target string) error {
	if _, err := directory(target); err != nil {
		return fmt.Errorf("mount EROFS %s: %w", spec, err)
	}
	d, err := Open(ctx, spec)
	if err != nil {
		return err
	}
	return errors.Join(d.Attach(target), d.Close())
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
