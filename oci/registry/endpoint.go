package registry

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"

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

	retrying  *loginClient
	once      *loginClient // does not retry
	direct    *loginClient // does not retry, does not follow redirects
	peers     *loginClient // the same through a peer-to-peer proxy, or nil
	elsewhere *http.Client // for where direct is redirected to: without credentials and without following redirects
	idle      []idleCloser
	health    httprange.Health
}

type idleCloser interface{ CloseIdleConnections() }

// newEndpoint completes an endpoint whose scheme, host, path, mirrors and can are set.
func (c *Client) newEndpoint(e *endpoint, conn httprange.Connection) (*endpoint, error) {
	site := httprange.NewSite(e.host, conn)
	watched := httprange.Patience(&realms{base: site, scheme: e.scheme, host: e.host}, c.o.Stall)
	e.idle = []idleCloser{site}
	client := func(hc *http.Client) *loginClient {
		client := &auth.Client{Client: hc, Header: http.Header{"User-Agent": {name}}, Cache: newTokens(), ClientID: name}
		if c.logins != nil {
			client.Credential, client.Cache = c.logins.credential, c.logins.tokens
		}
		return &loginClient{Client: client, host: e.host, chain: c.logins}
	}
	e.retrying = client(&http.Client{Transport: retry.NewTransport(watched), CheckRedirect: httprange.CheckRedirect})
	e.once = client(&http.Client{Transport: watched, CheckRedirect: httprange.CheckRedirect})
	e.elsewhere = &http.Client{Transport: watched, CheckRedirect: httprange.DontFollow}
	e.direct = client(e.elsewhere)
	if c.o.Peers != nil {
		through, err := c.o.Peers.Transport(e.host, conn.Transport.TLSClientConfig, watched)
		if err != nil {
			return nil, err
		}
		e.idle = append(e.idle, through)
		e.peers = client(&http.Client{Transport: httprange.Patience(through, c.o.Stall), CheckRedirect: httprange.DontFollow})
	}
	return e, nil
}

// ownEndpoint is the registry itself, when nothing else is configured.
func (c *Client) ownEndpoint(k hostKey) (*endpoint, error) {
	e := &endpoint{scheme: "https", host: apiHost(k.registry), path: "/v2", can: canAll}
	if k.plain {
		e.scheme = "http"
	}
	config := &tls.Config{InsecureSkipVerify: c.o.Insecure} // #nosec G402 -- the user asked for it
	return c.newEndpoint(e, httprange.Connection{Transport: httprange.NewTransport(config)})
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

// choose returns the endpoints that can do what is asked, in order of preference; those in trouble come last.
func choose(all []*endpoint, what capability) []*endpoint {
	var well, paused []*endpoint
	for _, e := range all {
		switch {
		case e.can&what != what:
		case e.health.Paused():
			paused = append(paused, e)
		default:
			well = append(well, e)
		}
	}
	return append(well, paused...)
}
