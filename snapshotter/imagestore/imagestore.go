// Package imagestore is what a client of containerd does with images that the snapshotter serves: it pulls them, telling the snapshotter of which image each layer is, fetches the
// layers that a pull left in the registry, and lists images of which layers are missing.
//
// It knows containerd's client, and takes what it fetches from package registry, so that credentials, mirrors and certificates are those of the other commands. The one idea to hold in
// mind: containerd keeps an image's record and content apart from its snapshots. A lazily pulled image has all snapshots, and of the content only manifest and config; whatever reads
// the layers themselves (push to another registry, export, conversion) needs them in the content store first.
package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"github.com/pagein/pagein/oci/registry"
)

const (
	// DefaultAddress is where containerd listens unless it is told otherwise.
	DefaultAddress = "/run/containerd/containerd.sock"
	// DefaultNamespace is that of ctr; Kubernetes uses "k8s.io".
	DefaultNamespace = namespaces.Default
	// Snapshotter is the name that containerd's configuration gives to ours.
	Snapshotter = "pagein"
	// maxDownloads is how many things are fetched at the same time.
	maxDownloads = 3
)

// Options say how to work with a containerd. Snapshotter and Registry are required.
type Options struct {
	Namespace   string            // "" for that of the context, or the default one
	Snapshotter string            // name by which containerd knows ours
	Registry    *registry.Client  // where layers come from
	Platform    *ocispec.Platform // of an index; nil for this machine's
	Progress    func(done int64)  // told how many bytes were fetched, now and then, by one goroutine at a time; may be nil
}

// Store is the images of one containerd. Its methods may be called concurrently.
type Store struct {
	client *containerd.Client
	o      Options
}

// Open connects to containerd at the path of its socket, with or without "unix://".
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	client, err := connect(ctx, strings.TrimPrefix(address, "unix://"))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", address, err)
	}
	return &Store{client: client, o: o}, nil
}

func connect(ctx context.Context, path string) (*containerd.Client, error) {
	if _, err := os.Stat(path); err != nil { // else it is waited for
		return nil, err
	}
	client, err := containerd.New(path)
	if err != nil {
		return nil, err
	}
	if _, err := client.Version(ctx); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// Close ends the connection.
func (s *Store) Close() error { return s.client.Close() }

// in is a context for the namespace of the options.
func (s *Store) in(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, s.o.Namespace)
}

// platform matches the images that are wanted of an index.
func (s *Store) platform() platforms.MatchComparer {
	if s.o.Platform == nil {
		return platforms.Default()
	}
	return platforms.Only(*s.o.Platform)
}

func downloads() *semaphore.Weighted { return semaphore.NewWeighted(maxDownloads) }
