package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
)

// errReadOnly says that what is made to pull cannot push.
var errReadOnly = errors.New("nothing is pushed here")

// resolver is package registry as containerd's client knows registries, for an image that was found already.
type resolver struct {
	client *registry.Client
	target ocispec.Descriptor
	meter  *meter
}

// find asks the registry what a name stands for.
func find(ctx context.Context, client *registry.Client, ref oci.Ref) (desc ocispec.Descriptor, err error) {
	repo, err := client.Repository(ref)
	if err != nil {
		return desc, err
	}
	if desc, err = repo.Resolve(ctx, ref.Reference()); err != nil {
		return desc, registry.Unresolved(ref.String(), err)
	}
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, nil
}

// Resolve implements [remotes.Resolver].
func (r resolver) Resolve(_ context.Context, ref string) (string, ocispec.Descriptor, error) {
	return ref, r.target, nil
}

// Fetcher implements [remotes.Resolver].
func (r resolver) Fetcher(_ context.Context, ref string) (remotes.Fetcher, error) {
	parsed, err := oci.ParseRef(ref)
	if err != nil {
		return nil, err
	}
	repo, err := r.client.Repository(parsed)
	if err != nil {
		return nil, err
	}
	return remotes.FetcherFunc(func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		body, err := repo.Fetch(ctx, desc)
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", desc.Digest, registry.Explain(err))
		}
		return r.meter.count(body), nil
	}), nil
}

// Pusher implements [remotes.Resolver].
func (resolver) Pusher(context.Context, string) (remotes.Pusher, error) { return nil, errReadOnly }

// meter adds up what is fetched.
type meter struct {
	mu       sync.Mutex
	done     int64
	progress func(done int64)
}

func (m *meter) count(r io.ReadCloser) io.ReadCloser { return &metered{r, m} }

// total is how many bytes were fetched.
func (m *meter) total() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.done
}

type metered struct {
	io.ReadCloser
	m *meter
}

func (r *metered) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.done += int64(n)
	if r.m.progress != nil {
		r.m.progress(r.m.done)
	}
	return n, err
}
