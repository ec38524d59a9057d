package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pagein/pagein/node/control"
)

// Ours returns the path of one of pagein's programs, which lie beside the running one.
func Ours(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find pagein's programs beside this one: %w; run make build", err)
	}
	return path, nil
}

// Node is a running pageind with a store of its own.
type Node struct {
	pagein, address string
	daemon          *Service
}

// StartNode starts pageind with everything it keeps below dir, which must exist, and returns when it answers. It runs until Stop is called.
func StartNode(ctx context.Context, dir string, args ...string) (*Node, error) {
	pagein, err := Ours("pagein")
	if err != nil {
		return nil, err
	}
	pageind, err := Ours("pageind")
	if err != nil {
		return nil, err
	}
	n := &Node{pagein: pagein, address: "unix://" + filepath.Join(dir, "pageind.sock")}
	args = append([]string{
		"--config", os.DevNull, "--root", filepath.Join(dir, "root"), "--run", filepath.Join(dir, "run"), "--address", n.address, "--unmount-on-exit",
	}, args...)
	// The daemon outlives ctx: what is mounted is to be unmounted first.
	if n.daemon, err = StartService(Command(context.WithoutCancel(ctx), pageind, args...)); err != nil {
		return nil, err
	}
	if err := n.daemon.Await(ctx, 20*time.Second, func(ctx context.Context) error { _, err := n.Status(ctx); return err }); err != nil {
		return nil, errors.Join(err, n.daemon.Stop())
	}
	return n, nil
}

// Programs returns what runs when an image is mounted, for [Warm].
func (n *Node) Programs() []string { return []string{n.pagein, n.daemon.cmd.Path} }

// Mount mounts an image on an existing directory.
func (n *Node) Mount(ctx context.Context, ref, target string) error {
	_, err := n.run(ctx, "mount", ref, target)
	return err
}

// Unmount takes it off again, also when ctx is done already: it cleans up.
func (n *Node) Unmount(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	_, err := n.run(ctx, "umount", target)
	return err
}

// Status asks the daemon how it is.
func (n *Node) Status(ctx context.Context) (control.Status, error) {
	var status control.Status
	data, err := n.run(ctx, "status", "--json")
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal(data, &status); err != nil {
		return status, fmt.Errorf("read what pagein status --json printed: %w", err)
	}
	return status, nil
}

// Stop ends the daemon, which unmounts what is still mounted.
func (n *Node) Stop() error { return n.daemon.Stop() }

// Log returns the end of what the daemon has logged.
func (n *Node) Log() string { return n.daemon.log.String() }

func (n *Node) run(ctx context.Context, args ...string) ([]byte, error) {
	return Output(Command(ctx, n.pagein, append([]string{"--address", n.address}, args...)...))
}
