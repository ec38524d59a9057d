package vmtests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// packageOf names the Debian package of every program that the harness runs.
func packageOf(tool string) string {
	return map[string]string{
		"apt-cache": "", "apt-get": "", "dpkg": "", "dpkg-deb": "",
		"tar": "tar", "xz": "xz-utils", "make": "make", "gcc": "gcc", "strip": "binutils",
		"depmod": "kmod", "modprobe": "kmod", "mkfs.ext4": "e2fsprogs", "ldd": "libc-bin",
		"mkfs.xfs": "xfsprogs", "xfs_repair": "xfsprogs", "e2fsck": "e2fsprogs", "dmsetup": "dmsetup",
		"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static",
	}[tool]
}

// find returns the path of a program, also if it lies in a directory that only root's PATH has.
func find(tool string) (string, error) {
	if p, err := exec.LookPath(tool); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		p := filepath.Join(dir, tool)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", &MissingError{What: "program " + tool, Package: packageOf(tool)}
}

// check returns an error that names the first of the programs that is missing.
func check(tools ...string) error {
	for _, t := range tools {
		if _, err := find(t); err != nil {
			return err
		}
	}
	return nil
}

// command prepares a program that cannot outlive ctx by more than a few seconds, whoever inherited its output.
func command(ctx context.Context, dir, tool string, args ...string) (*exec.Cmd, error) {
	path, err := find(tool)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 3 * time.Second
	return cmd, nil
}

// output runs a program and returns what it printed.
func output(ctx context.Context, dir, tool string, args ...string) (string, error) {
	cmd, err := command(ctx, dir, tool, args...)
	if err != nil {
		return "", err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	return string(out), explain(cmd, err, stderr.String())
}

// run runs a program whose output matters only when it fails.
func run(ctx context.Context, dir, tool string, args ...string) error {
	cmd, err := command(ctx, dir, tool, args...)
	if err != nil {
		return err
	}
	out, err := cmd.CombinedOutput()
	return explain(cmd, err, string(out))
}

func explain(cmd *exec.Cmd, err error, said string) error {
	if err == nil {
		return nil
	}
	if said = strings.TrimSpace(said); said == "" {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, tail(said, 2000))
}

// tail returns the last n bytes of s.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}

// isMissing reports whether the host lacks something.
func isMissing(err error) bool {
	var m *MissingError
	return errors.As(err, &m)
}
