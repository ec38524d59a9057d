package httprange

import (
	"net/http"
	"sync"
	"sync/atomic"
)

// Connection is how to reach a server.
type Connection struct {
	Transport *http.Transport   // for where it sends its clients, with its TLS settings
	Home      http.RoundTripper // for the server itself, on top of Transport; nil for Transport
	Header    http.Header       // for the server itself only
}

// Site is a round tripper for a server and for where it sends its clients: token servers and object storage. To the server go its configured headers, to others not; and
// the others may not have addresses that are narrower in reach than the server's own. Its methods may be called concurrently.
type Site struct {
	host   string
	conn   Connection
	reach  atomic.Int32 // of the server, as its last connection showed
	mu     sync.Mutex
	guards map[Reach]http.RoundTripper
}

// NewSite returns the site of the server host[:port].
func NewSite(host string, conn Connection) *Site {
	if conn.Home == nil {
		conn.Home = conn.Transport
	}
	return &Site{host: host, conn: conn, guards: make(map[Reach]http.RoundTripper)}
}

// RoundTrip implements http.RoundTripper.
func (s *Site) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != s.host {
		return s.guard().RoundTrip(req)
	}
	ctx := WithPeer(req.Context(), s.conn.Transport, req, func(r Reach) { s.reach.Store(int32(r)) })
	out := req.Clone(ctx)
	for k, v := range s.conn.Header {
		out.Header[k] = v
	}
	return s.conn.Home.RoundTrip(out)
}

// guard returns the way to other hosts.
func (s *Site) guard() http.RoundTripper {
	reach := Reach(s.reach.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.guards[reach]
	if g == nil {
		g = Guard(s.conn.Transport, reach)
		s.guards[reach] = g
	}
	return g
}

// CloseIdleConnections closes those of all ways.
func (s *Site) CloseIdleConnections() {
	s.conn.Transport.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.guards {
		if c, ok := g.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}
