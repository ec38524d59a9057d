// Package registry reads and writes OCI registries over HTTP: oras for manifests, referrers and pushes, and a ranged read of its own for
// the data path, over the same authentication.
//
// It never retries a ranged read and never trusts what it reads: the first is the engine's decision, the second is settled by digests.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/pagein/pagein/oci"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

const (
	dialTimeout = 10 * time.Second
	idleTimeout = 90 * time.Second
	// stallTimeout is how long a download may go without a byte.
	stallTimeout = 30 * time.Second
	// maxIdle bounds the connections that are kept open for a host: enough for the engine's parallel fetches.
	maxIdle = 16
	// maxMetadata bounds tag and referrer lists, in bytes.
	maxMetadata = 4 << 20
	// name is what registries see of this program.
	name = "pagein"
)

// Options say how to reach registries. The zero value is right for public ones.
type Options struct {
	PlainHTTP bool          // HTTP instead of HTTPS for every registry; loopback registries get it anyway, unless on port 443
	Insecure  bool          // do not verify TLS certificates
	Anonymous bool          // do not look for credentials in Docker's configuration
	Stall     time.Duration // how long a download may go without a byte, default 30 s
}

// Client holds what repositories share: connections, credentials and tokens. Its methods may be called concurrently.
type Client struct {
	o         Options
	transport *http.Transport
	retrying  *auth.Client
	direct    *auth.Client // does not retry
}

// NewClient returns a client. Credentials come from Docker's configuration ($DOCKER_CONFIG or ~/.docker/config.json and the helpers
// named there), which is only read.
func NewClient(o Options) (*Client, error) {
	if o.Stall == 0 {
		o.Stall = stallTimeout
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // parallel ranges want parallel connections, not one that they share
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: o.Insecure}, // #nosec G402 -- the user asked for it
		IdleConnTimeout:     idleTimeout,
		MaxIdleConns:        4 * maxIdle,
		MaxIdleConnsPerHost: maxIdle,
		DisableCompression:  true, // blobs are bytes, not content to be negotiated
		Protocols:           &protocols,
	}
	credential, err := credentialFunc(o)
	if err != nil {
		return nil, err
	}
	client := func(rt http.RoundTripper, cache auth.Cache) *auth.Client {
		return &auth.Client{
			Client:     &http.Client{Transport: rt, CheckRedirect: checkRedirect},
			Header:     http.Header{"User-Agent": {name}},
			Credential: credential,
			Cache:      cache,
			ClientID:   name,
		}
	}
	cache := auth.NewCache()
	watched := &patience{base: t, stall: o.Stall}
	return &Client{o: o, transport: t, retrying: client(retry.NewTransport(watched), cache), direct: client(watched, cache)}, nil
}

func credentialFunc(o Options) (auth.CredentialFunc, error) {
	if o.Anonymous {
		return nil, nil
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("read registry credentials from Docker's configuration: %w", err)
	}
	return credentials.Credential(store), nil
}

// checkRedirect keeps a redirect from leaving TLS. The authentication client below drops credentials when a redirect leaves the origin.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("redirect from https to %s://%s is not followed", req.URL.Scheme, req.URL.Host)
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

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
	r := orasregistry.Reference{Registry: ref.Host, Repository: ref.Repository}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("open repository %s: %w", ref, err)
	}
	return &Repository{
		Repository: &remote.Repository{
			Client:           c.retrying,
			Reference:        r,
			PlainHTTP:        c.o.PlainHTTP || ref.Loopback(),
			MaxMetadataBytes: maxMetadata,
			// The index that stands for referrers in registries without that API is replaced, never deleted: not every registry lets a
			// client delete.
			SkipReferrersGC: true,
		},
		c: c,
	}, nil
}

// String names the repository as a reference does: "docker.io/library/alpine".
func (r *Repository) String() string {
	return r.Reference.Registry + "/" + r.Reference.Repository
}

// withScope lets the authentication client find a token for pulling at the first attempt.
func (r *Repository) withScope(ctx context.Context) context.Context {
	return auth.AppendRepositoryScope(ctx, r.Reference, auth.ActionPull)
}
