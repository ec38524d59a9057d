package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/vmtests/wire"
)

// descriptors is the limit of open files that systemd gives its services; the kernel's own, 4096, is less than any distribution's.
const descriptors = 524288

// setUp makes a root that can be exchanged, mounts the usual file systems, has cgroups controllers, writes the files about names, loads the modules, and brings the disk and the loopback device up.
func setUp(spec wire.Spec) error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: descriptors}); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	if err := leaveRootfs(); err != nil {
		return err
	}
	for _, m := range []struct{ dir, fs string }{
		{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}, {"/dev/shm", "tmpfs"}, {"/dev/pts", "devpts"},
		{"/tmp", "tmpfs"}, {"/run", "tmpfs"}, {"/sys/fs/cgroup", "cgroup2"}, {"/sys/kernel/tracing", "tracefs"}, {"/sys/kernel/debug", "debugfs"},
	} {
		if err := mount(m.fs, m.dir, m.fs); err != nil {
			return err
		}
	}
	if err := useControllers(); err != nil {
		return err
	}
	if err := writeNames(); err != nil {
		return err
	}
	for _, m := range spec.Modules {
		if err := load(wire.ModuleDir + "/" + m); err != nil {
			return err
		}
	}
	if err := waitFor("/dev/vda"); err != nil {
		return err
	}
	if err := mount("/dev/vda", "/disk", "ext4"); err != nil {
		return err
	}
	return loopbackUp()
}

// leaveRootfs makes a mount of the initramfs the root: the first mount of all cannot be exchanged, as runc exchanges the root of its containers (pivot_root).
func leaveRootfs() error {
	const dir = "/root-mount"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind / to %s: %w", dir, err)
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", dir, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("make a mount of the initramfs the root: %w", err)
	}
	return nil
}

func mount(source, dir, fs string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, dir, fs, 0, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fs, dir, err)
	}
	return nil
}

// useControllers makes a cgroup that is never removed, with all controllers. With the first such cgroup the kernel patches its own code; when a container made it, both processors of a machine
// that QEMU 7.2 emulates were seen to hang for good at the patched instruction. Here nothing else runs yet.
func useControllers() error {
	const root = "/sys/fs/cgroup"
	all, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(all)) {
		if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+name), 0); err != nil {
			return fmt.Errorf("have cgroups the controller %s: %w", name, err)
		}
	}
	return os.Mkdir(root+"/first", 0o755)
}

// writeNames makes the files about names that containerd gives to pods.
func writeNames() error {
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644); err != nil { // #nosec G306 -- everybody reads it
		return err
	}
	return os.WriteFile("/etc/resolv.conf", nil, 0o644) // #nosec G306 -- likewise
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// waitFor waits up to ten seconds for a device node.
func waitFor(path string) error {
	var err error
	for range 200 {
		if _, err = os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
