// Package registry reads and writes OCI registries over HTTP: oras for manifests, referrers and pushes, and a ranged read of its own for
// the data path, over the same connections, credentials, mirrors and rules.
//
// A registry is a list of endpoints: its mirrors, as containerd's hosts.toml has them, and itself. It never retries a ranged read and never trusts what it reads: the
// first is the engine's decision, the second is settled by digests. The one idea to hold in mind: where a blob really is (the endpoint that has it, the
// object storage that it redirects to) is learnt once and remembered while it holds, so that a miss costs one round trip.
package registry

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/pagein/pagein/internal/httprange"
	"github.com/pagein/pagein/oci"
)

const (
	// stallTimeout is how long a download may go without bytes.
	stallTimeout = 30 * time.Second
	// maxMetadata bounds tag and referrer lists, in bytes.
	maxMetadata = 4 << 20
	// name is what registries see of this program.
	name = "pagein"
)

// Options say how to reach registries. The zero value is right for public ones.
type Options struct {
	PlainHTTP bool          // HTTP instead of HTTPS for every registry; loopback registries get it anyway, unless on port 443
	Insecure  bool          // do not verify TLS certificates
	Anonymous bool          // do not look for credentials
	Logins    []Logins      // sources of credentials besides Docker's configuration, which comes first; they are asked in this order
	Stall     time.Duration // how long a download may go with next to no bytes, default 30 s
	HostsDirs []string      // directories with hosts.toml files as containerd has them; the first that has something about a registry counts
	Peers     *httprange.Proxy
	Log       *slog.Logger // nil for none
}

// Client holds what repositories share: connections, credentials, tokens, and what was learnt of where blobs are. Its methods may be called concurrently.
type Client struct {
	o      Options
	log    *slog.Logger
	logins *chain           // nil for none
	memory httprange.Memory // of where blobs are

	mu    sync.Mutex
	hosts map[hostKey]*hostSet
}

// hostKey says whose endpoints a hostSet has.
type hostKey struct {
	registry string // as references name it: "docker.io"
	plain    bool   // to be spoken to over plain HTTP unless something else is configured
}

// NewClient returns a client. Credentials come from Docker's configuration ($DOCKER_CONFIG or ~/.docker/config.json and the helpers
// named there), which is only read, whenever it has changed, and then from what the options name.
func NewClient(o Options) (*Client, error) {
	if o.Stall == 0 {
		o.Stall = stallTimeout
	}
	c := &Client{o: o, log: o.Log, hosts: make(map[hostKey]*hostSet)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if !o.Anonymous {
		config, err := newDockerConfig()
		if err != nil {
			return nil, fmt.Errorf("find Docker's configuration: %w", err)
		}
		c.logins = newChain(append([]Logins{config}, o.Logins...), c.log)
	}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		h.close()
	}
}

// Repository is one repository of a registry. It is an oras target: manifests and blobs can be resolved, fetched, pushed, tagged and asked
// for referrers, with retries. Its methods may be called concurrently.
type Repository struct {
	*remote.Repository
	c *Client
}

// Repository returns the repository that ref names. It does not connect.
func (c *Client) Repository(ref oci.Ref) (*Repository, error) {
	if ref.Kind != oci.Registry {
		return nil, fmt.Errorf("open repository %s: it names no registry", ref)
	}
	r := &Repository{c: c, Repository: &remote.Repository{
		Reference:        orasregistry.Reference{Registry: ref.Host, Repository: ref.Repository},
		PlainHTTP:        c.o.PlainHTTP || ref.Loopback(),
		MaxMetadataBytes: maxMetadata,
		// The index that stands for referrers in registries without that API is replaced, never deleted: not every registry lets a
		// client delete.
		SkipReferrersGC: true,
	}}
	if err := r.Reference.Validate(); err != nil {
		return nil, fmt.Errorf("open repository %s: %w", ref, err)
	}
	r.Client = &router{r}
	return r, nil
}

// String names the repository as a reference does: "docker.io/library/alpine".
func (r *Repository) String() string {
	return r.Reference.Registry + "/" + r.Reference.Repository
}

// endpoints returns the servers to ask for the repository, the preferred ones first.
func (r *Repository) endpoints() ([]*endpoint, error) {
	return r.c.endpoints(hostKey{registry: r.Reference.Registry, plain: r.PlainHTTP})
}
