package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"

	"github.com/pagein/pagein/node"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/snapshotter"
	"github.com/pagein/pagein/snapshotter/imageservice"
)

// snapshotsConfig is the part of the configuration that is about containerd.
type snapshotsConfig struct {
	Snapshotter snapshotterTable `toml:"snapshotter"`
	Trust       trustTable       `toml:"trust"`
}

// snapshotterTable is the table [snapshotter].
type snapshotterTable struct {
	Address      string   `toml:"address"`       // where containerd is served; "" for nowhere
	Root         string   `toml:"root"`          // absolute; "" for a directory below the daemon's root
	MountOptions []string `toml:"mount-options"` // more options for overlayfs
	ImageService string   `toml:"image-service"` // containerd's own address, to forward kubelet's pulls to; "" not to
}

// checkSnapshotter checks these settings and completes them.
func (c *config) checkSnapshotter() error {
	if c.Snapshotter.Root == "" {
		c.Snapshotter.Root = filepath.Join(c.Root, "snapshotter")
	}
	if !filepath.IsAbs(c.Snapshotter.Root) {
		return fmt.Errorf("root %q in [snapshotter] is no absolute path", c.Snapshotter.Root)
	}
	if c.Snapshotter.ImageService != "" && c.Snapshotter.Address == "" {
		return errors.New("image-service in [snapshotter] needs an address there, at which it is served")
	}
	_, err := c.Trust.open()
	return err
}

// snapshots is what serves containerd.
type snapshots struct {
	listener net.Listener
	*snapshotter.Snapshotter
	images *imageservice.Proxy // or nil
}

// listenSnapshots opens the socket for containerd. Without an address it returns nil.
func listenSnapshots(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := control.Listen(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("serve snapshots: %w", err)
	}
	return l, nil
}

// openSnapshots opens the snapshots to be served at a listener. Without one it returns nil.
func openSnapshots(cfg config, l net.Listener, n *node.Node, pulls imageservice.Pulls, log *slog.Logger) (*snapshots, error) {
	if l == nil {
		return nil, nil
	}
	policy, err := cfg.Trust.open()
	if err != nil {
		return nil, err
	}
	warnOfKeys(policy, log)
	s, err := snapshotter.New(snapshotter.Config{Root: cfg.Snapshotter.Root, Node: artifacts{n, cfg.Snapshotter.Root}, Trust: policy, MountOptions: cfg.Snapshotter.MountOptions, Log: log})
	if err != nil {
		return nil, err
	}
	up := &snapshots{listener: control.Trusted(l, log), Snapshotter: s}
	if cfg.Snapshotter.ImageService == "" {
		return up, nil
	}
	up.images, err = imageservice.New(imageservice.Config{Address: cfg.Snapshotter.ImageService, Pulls: pulls, Disk: disk{s, cfg.Snapshotter.Root}, Log: log})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return up, nil
}

// serve answers containerd, once what was mounted before a restart of the machine is again, until ctx is done, and closes the snapshots.
func (s *snapshots) serve(ctx context.Context, settled <-chan struct{}, log *slog.Logger) error {
	if s == nil {
		<-ctx.Done()
		return nil
	}
	select { // a container that came first would have its image looked for in a registry
	case <-settled:
	case <-ctx.Done():
	}
	log.Info("serving snapshots", "address", s.listener.Addr())
	if s.images == nil {
		return errors.Join(s.Serve(ctx, s.listener), s.Close())
	}
	log.Info("forwarding Kubernetes' image service", "address", s.listener.Addr())
	return errors.Join(s.Serve(ctx, s.listener, s.images.Options()...), s.images.Close(), s.Close())
}

// told is a node that also says which images are not its own, and why.
type told struct {
	*node.Node
	snapshots *snapshots // or nil
}

func (t told) Status(ctx context.Context) (control.Status, error) {
	status, err := t.Node.Status(ctx)
	if err != nil || t.snapshots == nil {
		return status, err
	}
	status.Unpacked = toldOf(t.snapshots.Unpacked())
	for i, image := range status.Images {
		status.Images[i].Names = namesOf(t.snapshots.Name, image.Targets)
	}
	return status, nil
}

// namesOf are the names that containerd has for what is mounted on these directories, each once.
func namesOf(name func(target string) string, targets []string) (names []string) {
	for _, t := range targets {
		if n := name(t); n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// toldOf is what clients are told of images that were unpacked: reasons are written for the log, and must hold no more secrets than it.
func toldOf(all []snapshotter.Unpacked) (told []control.Unpacked) {
	for _, u := range all {
		u.Reason = plain(u.Reason)
		told = append(told, control.Unpacked(u))
	}
	return told
}

// artifacts is a node as the snapshotter knows it. Mounts below the snapshotter's root are reserved, see [node.Config].
type artifacts struct {
	*node.Node
	root string // of the snapshots
}

func (a artifacts) Used(context.Context) (map[string]int64, error) { return a.Node.Used(a.root) }

func (a artifacts) Find(ctx context.Context, ref oci.Ref, accept artifact.Accept) (*snapshotter.Found, error) {
	found, err := a.Node.Find(ctx, ref, accept)
	if err != nil {
		return nil, withCure(err, ref)
	}
	return (*snapshotter.Found)(found), nil
}

// withCure says how pageind is told that a registry has no TLS: containerd, which was, does not tell a snapshotter.
func withCure(err error, ref oci.Ref) error {
	if !errors.Is(err, registry.ErrPlainHTTP) {
		return err
	}
	return fmt.Errorf("%w, and pageind is not told: write server = \"http://%s\" into hosts.toml in the directory %s of one of its hosts-dirs, such as /etc/containerd/certs.d", err, ref.Host, ref.Host)
}

func (a artifacts) Mount(ctx context.Context, artifact, target string) error {
	_, err := a.Node.Mount(ctx, control.MountRequest{Source: control.Source{Ref: artifact}, Target: target})
	return err
}

// Begins does not have a container wait while the node mounts something else.
func (a artifacts) Begins(target string) { go a.Node.Begins(target) }

func (a artifacts) Unmount(ctx context.Context, target string) error {
	err := a.Node.Unmount(ctx, target)
	if control.ClassOf(err) == control.NotFound {
		return nil
	}
	return err
}

// disk is the snapshots' disk as Kubernetes is told of it.
type disk struct {
	*snapshotter.Snapshotter
	root string
}

func (d disk) Used(ctx context.Context) (dir string, bytes, inodes uint64, err error) {
	all, err := d.Snapshotter.Used(ctx)
	return d.root, uint64(max(all.Size, 0)), uint64(max(all.Inodes, 0)), err
}
