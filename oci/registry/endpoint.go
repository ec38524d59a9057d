package registry

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/pagein/pagein/internal/httprange"
)

// capability is something that an endpoint may be asked for.
type capability uint8

// The capabilities of hosts.toml.
const (
	canPull      capability = 1 << iota // content by digest
	canResolve                          // manifests by tag
	canPush                             // everything that changes something
	canReferrers                        // lists of referrers

	canAll = canPull | canResolve | canPush | canReferrers
)

// endpoint is a server that has what a registry has: the registry itself, or a mirror.
type endpoint struct {
	scheme, host, path string // path is where the API is: "/v2"
	mirrors            string // the registry whose mirror it is, empty for the registry itself
	can                capability

	retrying  *auth.Client
	once      *auth.Client // does not retry
	direct    *auth.Client // does not retry, does not follow redirects
	peers     *auth.Client // the same through a peer-to-peer proxy, or nil
	elsewhere *http.Client // for where direct is redirected to: without credentials and without following redirects
	idle      []idleCloser
	health    health
}

type idleCloser interface{ CloseIdleConnections() }

// connection is how to reach an endpoint.
type connection struct {
	transport *http.Transport   // for redirects to other hosts, with the endpoint's TLS settings
	home      http.RoundTripper // for the endpoint, on top of transport; nil for transport itself
	header    http.Header       // for the endpoint only
}

// newEndpoint completes an endpoint whose scheme, host, path, mirrors and can are set.
func (c *Client) newEndpoint(e *endpoint, conn connection) *endpoint {
	site := newSite(e.host, conn)
	watched := httprange.Patience(site, c.o.Stall)
	e.idle = []idleCloser{site}
	cache := auth.NewCache()
	client := func(hc *http.Client) *auth.Client {
		return &auth.Client{Client: hc, Header: http.Header{"User-Agent": {name}}, Credential: c.credential, Cache: cache, ClientID: name}
	}
	e.retrying = client(&http.Client{Transport: retry.NewTransport(watched), CheckRedirect: checkRedirect})
	e.once = client(&http.Client{Transport: watched, CheckRedirect: checkRedirect})
	e.elsewhere = &http.Client{Transport: watched, CheckRedirect: dontFollow}
	e.direct = client(e.elsewhere)
	if c.o.Peers != nil {
		through := c.o.Peers.Transport(e.host, watched)
		e.peers = client(&http.Client{Transport: httprange.Patience(through, c.o.Stall), CheckRedirect: dontFollow})
	}
	return e
}

// ownEndpoint is the registry itself, when nothing else is configured.
func (c *Client) ownEndpoint(k hostKey) *endpoint {
	e := &endpoint{scheme: "https", host: apiHost(k.registry), path: "/v2", can: canAll}
	if k.plain {
		e.scheme = "http"
	}
	config := &tls.Config{InsecureSkipVerify: c.o.Insecure} // #nosec G402 -- the user asked for it
	return c.newEndpoint(e, connection{transport: httprange.NewTransport(config)})
}

// apiHost is where a registry's API is, if nothing is configured.
func apiHost(registry string) string {
	if registry == "docker.io" {
		return "registry-1.docker.io"
	}
	return registry
}

// url is where the endpoint has something. The path is that of the API behind "/v2": "/library/alpine/manifests/latest".
func (e *endpoint) url(path, rawQuery string) *url.URL {
	u := &url.URL{Scheme: e.scheme, Host: e.host, Path: strings.TrimSuffix(e.path, "/") + path, RawQuery: rawQuery}
	if e.mirrors != "" { // as containerd does, so that one mirror can serve several registries
		q := u.Query()
		q.Set("ns", e.mirrors)
		u.RawQuery = q.Encode()
	}
	return u
}

// String names the endpoint for messages.
func (e *endpoint) String() string { return e.scheme + "://" + e.host }

// health remembers that an endpoint failed. Its methods may be called concurrently.
type health struct {
	mu    sync.Mutex
	pause time.Duration // after the next failure
	until time.Time     // until then the endpoint is asked only if no other answers
}

const (
	minPause = 2 * time.Second
	maxPause = time.Minute
)

// failed notes that the endpoint, not only what it was asked for, is in trouble.
func (h *health) failed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if now.Before(h.until) { // one outage fails many requests at the same time
		return
	}
	h.pause = min(max(2*h.pause, minPause), maxPause)
	h.until = now.Add(h.pause)
}

// worked notes that the endpoint answered.
func (h *health) worked() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pause, h.until = 0, time.Time{}
}

func (h *health) paused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.until)
}

// choose returns the endpoints that can do what is asked, in order of preference; those in trouble come last.
func choose(all []*endpoint, what capability) []*endpoint {
	var well, paused []*endpoint
	for _, e := range all {
		switch {
		case e.can&what != what:
		case e.health.paused():
			paused = append(paused, e)
		default:
			well = append(well, e)
		}
	}
	return append(well, paused...)
}
