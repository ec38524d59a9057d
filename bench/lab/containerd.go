package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Overlayfs is the name of containerd's own snapshotter, which unpacks what it pulls.
const Overlayfs = "overlayfs"

// Containerd is a running containerd with a store of its own, and the snapshotter that it uses.
type Containerd struct {
	socket, snapshotter string
	peers               string // bench-peers
	service             *Service
}

// containerdConfig leaves out what no benchmark needs and what would want programs and directories outside of the one given.
const containerdConfig = `version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
address = %q
[ttrpc]
address = %q
`

// proxyConfig makes a socket a snapshotter.
const proxyConfig = `
[proxy_plugins.%s]
type = "snapshot"
address = %q
`

// StartContainerd starts the containerd that lies beside this program, with everything it keeps below dir, which must exist, and with a snapshotter: [Overlayfs], or another
// one that serves containerd's API at a socket already. It runs until Stop is called.
func StartContainerd(ctx context.Context, dir, snapshotter, snapshotterSocket string) (*Containerd, error) {
	program, err := Ours("containerd")
	if err != nil {
		return nil, err
	}
	peers, err := Ours("bench-peers")
	if err != nil {
		return nil, err
	}
	c := &Containerd{socket: filepath.Join(dir, "containerd.sock"), snapshotter: snapshotter, peers: peers}
	config := filepath.Join(dir, "containerd.toml")
	text := fmt.Appendf(nil, containerdConfig, filepath.Join(dir, "containerd"), filepath.Join(dir, "containerd-state"), c.socket, c.socket+".ttrpc")
	if snapshotter != Overlayfs {
		text = fmt.Appendf(text, proxyConfig, snapshotter, snapshotterSocket)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, fmt.Errorf("configure containerd: %w", err)
	}
	if c.service, err = StartService(Command(context.WithoutCancel(ctx), program, "--config", config, "--log-level", "warn")); err != nil {
		return nil, err
	}
	if err := c.service.Await(ctx, 20*time.Second, answers(c.socket)); err != nil {
		return nil, errors.Join(err, c.service.Stop())
	}
	return c, nil
}

// answers reports whether somebody listens at a socket.
func answers(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// Programs returns what runs when an image is mounted or a container is run, for [Warm].
func (c *Containerd) Programs() []string {
	programs := []string{c.peers, c.service.cmd.Path}
	for _, name := range []string{c.service.cmd.Path + "-shim-runc-v2", "runc"} {
		if path, err := exec.LookPath(name); err == nil {
			programs = append(programs, path)
		}
	}
	return programs
}

// Mount pulls an image, which unpacks nothing if its snapshotter reads lazily, and mounts it read-only on an existing directory.
func (c *Containerd) Mount(ctx context.Context, ref, target string) error {
	_, err := Output(Command(ctx, c.peers, "mount", c.socket, c.snapshotter, ref, target))
	return err
}

// Run pulls an image, runs a command in a container of it to its end, and returns what it printed.
func (c *Containerd) Run(ctx context.Context, ref string, args ...string) ([]byte, error) {
	return Output(Command(ctx, c.peers, append([]string{"run", c.socket, c.snapshotter, ref}, args...)...))
}

// Unmount takes it off again.
func (c *Containerd) Unmount(_ context.Context, target string) error {
	return UnmountBelow(filepath.Dir(target))
}

// Stop ends containerd, which leaves mounts alone.
func (c *Containerd) Stop() error { return c.service.Stop() }
