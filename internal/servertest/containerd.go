package servertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// containerdConfig is schema 3, of containerd 2. Who names one place to unpack for must name all: the built-in one is dropped.
const containerdConfig = `version = 3
root = %[1]q
state = %[2]q
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]
[grpc]
address = %[3]q
[proxy_plugins.pagein]
type = "snapshot"
address = %[4]q
[proxy_plugins.pagein.exports]
enable_remote_snapshot_annotations = "%[5]t"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "overlayfs"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "pagein"
`

// Containerd is a container runtime with a directory of its own, and its command.
type Containerd struct {
	*Process
	Dir string // short, as sockets' names must be

	ctr string
}

// StartContainerd starts containerd with the snapshotter "pagein" at a socket, which need not be there yet, and is told of which image a layer is or not. The end of the test ends
// the containers.
func StartContainerd(t testing.TB, snapshotter string, told bool) *Containerd {
	t.Helper()
	program, ctr := require.Tool(t, "containerd"), require.Tool(t, "ctr")
	require.Tool(t, "containerd-shim-runc-v2")
	require.Tool(t, "runc")
	dir, err := os.MkdirTemp("", "ctrd-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Containerd{Dir: dir, ctr: ctr}
	t.Cleanup(func() {
		c.releaseMounts()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.Process = start(t, func(string) *exec.Cmd {
		config := writeFile(t, filepath.Join(dir, "config.toml"),
			fmt.Sprintf(containerdConfig, filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket(), snapshotter, told))
		cmd := exec.Command(program, "--config", config) // #nosec G204 -- a test's own
		// The shims are found in PATH, and outlive containerd: as they must, and until the test ends them.
		cmd.Env = append(cmd.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))
		return cmd
	}, c.Answers)
	t.Cleanup(c.empty)
	return c
}

func (c *Containerd) socket() string { return filepath.Join(c.Dir, "sock") }

// Answers reports whether containerd is ready.
func (c *Containerd) Answers(string) error {
	_, err := c.Try("version")
	return err
}

// Ctr runs a command of ctr that must succeed, and returns what it prints.
func (c *Containerd) Ctr(args ...string) string {
	c.t.Helper()
	out, err := c.Try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// Try runs a command of ctr.
func (c *Containerd) Try(args ...string) (string, error) {
	cmd := exec.Command(c.ctr, append([]string{"--address", c.socket()}, args...)...) // #nosec G204 -- a test's own
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("ctr %s: %w: %s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), nil
}

// Lines are the words of the first column that a listing command of ctr prints.
func (c *Containerd) Lines(args ...string) (words []string) {
	c.t.Helper()
	for line := range strings.Lines(c.Ctr(args...)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "KEY" && fields[0] != "DIGEST" && fields[0] != "CONTAINER" {
			words = append(words, fields[0])
		}
	}
	return words
}

// empty ends the containers and removes the images, whatever state the test left, so that nothing of the snapshotter is needed any more.
func (c *Containerd) empty() {
	if c.Answers("") != nil {
		c.Restart(c.Answers) // nobody else ends the containers
	}
	for _, id := range c.Lines("containers", "ls", "-q") {
		_, _ = c.Try("tasks", "rm", "-f", id) // there may be none
		if _, err := c.Try("containers", "rm", id); err != nil {
			c.t.Error(err)
		}
	}
	for _, image := range c.Lines("images", "ls", "-q") {
		if _, err := c.Try("images", "rm", "--sync", image); err != nil {
			c.t.Error(err)
		}
	}
}

// releaseMounts takes off what containers that could not be ended left.
func (c *Containerd) releaseMounts() {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		c.t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if target := strings.Fields(line)[1]; strings.HasPrefix(target, c.Dir+"/") {
			if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
				c.t.Errorf("unmount %s: %v", target, err)
			}
		}
	}
}
