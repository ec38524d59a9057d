package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/vmtests/wire"
)

// descriptors is the limit of open files that systemd gives its services; the kernel's own, 4096, is less than any distribution's.
const descriptors = 524288

// setUp mounts the usual file systems, loads the modules, and brings the disk and the loopback device up.
func setUp(spec wire.Spec) error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: descriptors}); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	for _, m := range []struct{ dir, fs string }{
		{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}, {"/dev/shm", "tmpfs"}, {"/dev/pts", "devpts"},
		{"/tmp", "tmpfs"}, {"/run", "tmpfs"}, {"/sys/fs/cgroup", "cgroup2"}, {"/sys/kernel/tracing", "tracefs"}, {"/sys/kernel/debug", "debugfs"},
	} {
		if err := mount(m.fs, m.dir, m.fs); err != nil {
			return err
		}
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

func mount(source, dir, fs string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, dir, fs, 0, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fs, dir, err)
	}
	return nil
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
