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

// Containerd is a container runtime with a directory of its own, and its command.
type Containerd struct {
	*Process
	Dir string // short, as sockets' names must be

	ctr       string
	namespace string // of containerd
}

// StartContainerd starts containerd with the snapshotter "pagein". The end of the test ends the containers, unless they are kept.
func StartContainerd(t testing.TB, o ContainerdOptions) *Containerd {
	t.Helper()
	require.Tool(t, "runc")
	programs := containerdPrograms(t, o.Old)
	dir, err := os.MkdirTemp("", "ctrd-")
	if err != nil {
		t.Fatal(err)
	}
	c := &Containerd{Dir: dir, ctr: filepath.Join(programs, "ctr"), namespace: "default"}
	if o.Sandbox != "" {
		c.namespace = "k8s.io"
	}
	if o.Kept == "" {
		t.Cleanup(c.removeDir)
	}
	c.Process = start(t, func(string) *exec.Cmd {
		config := writeFile(t, filepath.Join(dir, "config.toml"), o.config(dir, c.Socket()))
		if o.SetUp != nil {
			o.SetUp(filepath.Join(programs, "containerd"), config)
		}
		cmd := exec.Command(filepath.Join(programs, "containerd"), "--config", config) // #nosec G204 -- a test's own
		// The shims are found in PATH, and outlive containerd: as they must, and until the test ends them.
		cmd.Env = append(cmd.Environ(), "PATH="+programs+":"+os.Getenv("PATH"))
		return cmd
	}, c.Answers)
	if o.Kept == "" {
		t.Cleanup(c.empty)
	}
	return c
}

// containerdPrograms is the directory with containerd's programs. Those of the 1.7 series lie below that of the others.
func containerdPrograms(t testing.TB, old bool) string {
	t.Helper()
	dir := filepath.Dir(require.Tool(t, "containerd"))
	if !old {
		require.Tool(t, "ctr")
		require.Tool(t, "containerd-shim-runc-v2")
		return dir
	}
	dir = filepath.Join(dir, "containerd-1.7")
	_, err := os.Stat(filepath.Join(dir, "containerd"))
	require.Feature(t, err == nil, "containerd 1.7 (hack/deps.sh builds it)")
	return dir
}

// Socket is where containerd serves.
func (c *Containerd) Socket() string { return filepath.Join(c.Dir, "sock") }

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

// Try runs a command of ctr, in the namespace of the CRI if that is served.
func (c *Containerd) Try(args ...string) (string, error) {
	cmd := exec.Command(c.ctr, append([]string{"--address", c.Socket(), "--namespace", c.namespace}, args...)...) // #nosec G204 -- a test's own
	return Output(cmd)
}

// Output runs a client and returns what it prints, and an error with all that it says if it fails.
func Output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, out, stderr.String())
	}
	return string(out), err
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

// removeDir removes all that containerd had.
func (c *Containerd) removeDir() {
	c.releaseMounts()
	if err := os.RemoveAll(c.Dir); err != nil {
		c.t.Error(err)
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
