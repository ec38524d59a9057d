package registry

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/pagein/pagein/internal/httprange"
)

// site is a round tripper for an endpoint and for where it sends its clients: token servers and object storage. To the endpoint go its configured headers, to others not; and
// the others may not have addresses that are narrower in reach than the endpoint's own.
type site struct {
	host   string
	conn   connection
	reach  atomic.Int32 // of the endpoint, as its last connection showed
	mu     sync.Mutex
	guards map[httprange.Reach]http.RoundTripper
}

func newSite(host string, conn connection) *site {
	if conn.home == nil {
		conn.home = conn.transport
	}
	return &site{host: host, conn: conn, guards: make(map[httprange.Reach]http.RoundTripper)}
}

// RoundTrip implements http.RoundTripper.
func (s *site) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != s.host {
		return s.guard().RoundTrip(req)
	}
	ctx := httprange.WithPeer(req.Context(), s.conn.transport, req, func(r httprange.Reach) { s.reach.Store(int32(r)) })
	out := req.Clone(ctx)
	for k, v := range s.conn.header {
		out.Header[k] = v
	}
	return s.conn.home.RoundTrip(out)
}

// guard returns the way to other hosts.
func (s *site) guard() http.RoundTripper {
	reach := httprange.Reach(s.reach.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.guards[reach]
	if g == nil {
		g = httprange.Guard(s.conn.transport, reach)
		s.guards[reach] = g
	}
	return g
}

// CloseIdleConnections closes those of all ways.
func (s *site) CloseIdleConnections() {
	s.conn.transport.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.guards {
		if c, ok := g.(idleCloser); ok {
			c.CloseIdleConnections()
		}
	}
}

// maxRedirects is how often an answer may lead elsewhere.
const maxRedirects = 10

// errRedirects says that there was no end to it.
var errRedirects = errors.New("more than 10 redirects")

// checkRedirect keeps a redirect from leaving TLS. The authentication client below drops credentials when a redirect leaves the origin.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return errRedirects
	}
	return checkScheme(via[0].URL.Scheme, req)
}

func checkScheme(first string, req *http.Request) error {
	if s := req.URL.Scheme; s != "https" && (s != "http" || first == "https") {
		return fmt.Errorf("redirect from %s to %s://%s is %w", first, s, req.URL.Host, httprange.ErrRefused)
	}
	return nil
}

func dontFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
