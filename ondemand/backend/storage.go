package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pagein/pagein/internal/httprange"
)

// stallTimeout is how long a source may go with next to no bytes.
const stallTimeout = 30 * time.Second

// StorageOptions say what [Storage] may read and how.
type StorageOptions struct {
	Places []Place
	Stall  time.Duration // how long a source may go with next to no bytes, default 30 s
}

// Storage opens objects by URL: https://…, http://…, s3://BUCKET/KEY?endpoint=…&region=…&style=…, file:///PATH. Its methods may be called concurrently.
//
// URLs come from artifacts, which others wrote. So what is not at or below a configured [Place] is asked for only if that can do no harm: over https, at public
// addresses, without credentials. Files and plain http need a place.
type Storage struct {
	places     []*configured
	anywhere   *configured // for what no place is configured for
	stall      time.Duration
	memory     httprange.Memory
	files      caller
	transports []*http.Transport
}

// NewStorage checks the options. It does not connect.
func NewStorage(o StorageOptions) (*Storage, error) {
	if o.Stall == 0 {
		o.Stall = stallTimeout
	}
	s := &Storage{stall: o.Stall, files: newPatientCalls(o.Stall)}
	for _, p := range o.Places {
		c, err := s.configure(p)
		if err != nil {
			return nil, fmt.Errorf("storage %s: %w", p.URL, err)
		}
		s.places = append(s.places, c)
	}
	t := httprange.NewTransport(nil)
	s.transports = append(s.transports, t)
	s.anywhere = &configured{Place: Place{Anonymous: true}, storage: s, transport: t, guard: httprange.Guard(t, httprange.Public)}
	return s, nil
}

// Close closes idle connections.
func (s *Storage) Close() {
	for _, t := range s.transports {
		t.CloseIdleConnections()
	}
	if g, ok := s.anywhere.guard.(interface{ CloseIdleConnections() }); ok {
		g.CloseIdleConnections()
	}
}

// Open returns the object of the given size at a URL. It does not connect. The error is [ErrForbidden] if the configuration does not allow the place.
func (s *Storage) Open(rawURL string, size int64) (Object, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	p := s.find(u)
	if p == nil {
		return nil, fmt.Errorf("open %s: %w: no storage is configured at or above it", plainURL(u), ErrForbidden)
	}
	switch u.Scheme {
	case "file":
		dir := p.url.Path
		name, err := filepath.Rel(dir, u.Path)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", plainURL(u), err)
		}
		return &posixObject{file: file{dir: dir, name: name, size: size}, calls: s.files}, nil
	case "s3":
		return p.openS3(u, size)
	}
	return p.openHTTP(u, size), nil
}

// find returns the place that a URL is in, nil if it must not be read.
func (s *Storage) find(u *url.URL) *configured {
	for _, p := range s.places {
		if p.contains(u) {
			return p
		}
	}
	if endpoint := u.Query().Get("endpoint"); u.Scheme == "https" || u.Scheme == "s3" && (endpoint == "" || strings.HasPrefix(endpoint, "https://")) {
		return s.anywhere
	}
	return nil
}

// parseURL accepts what can name an object.
func parseURL(raw string) (*url.URL, error) {
	bad := func(why string) error {
		plain, _, _ := strings.Cut(raw, "?")
		return fmt.Errorf("open %q: %s: %w", plain, why, errBadURL)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, bad("it cannot be parsed")
	case u.User != nil:
		return nil, bad("it holds credentials")
	case u.Fragment != "" || u.Opaque != "":
		return nil, bad("it is more than a path")
	case u.Path == "" || u.Path == "/" || strings.HasSuffix(u.Path, "/") || path.Clean(u.Path) != u.Path || strings.ContainsRune(u.Path, 0):
		return nil, bad("its path names no object, or not in its shortest form")
	}
	switch u.Scheme {
	case "http", "https", "s3":
		if u.Host == "" {
			return nil, bad("it names no host, or bucket")
		}
	case "file":
		if u.Host != "" || u.RawQuery != "" {
			return nil, bad("file URLs have a path and nothing else")
		}
	default:
		return nil, bad("the scheme is none of https, http, s3, file")
	}
	return u, nil
}

// errBadURL says that a URL will never work.
var errBadURL = errors.New("not an object's URL")

// plainURL writes a URL without its query, which may hold a signature.
func plainURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// openHTTP opens an object of an HTTP server.
func (c *configured) openHTTP(u *url.URL, size int64) Object {
	return &httpObject{
		name: plainURL(u), size: size, client: c.client(u.Host), memory: &c.storage.memory, stall: c.storage.stall,
		locate: func(context.Context) (*url.URL, error) { return u, nil },
	}
}

// client returns a client for a server of the place, and where it redirects to.
func (c *configured) client(host string) *http.Client {
	way := c.guard
	switch {
	case way != nil: // one for all, as others choose the hosts
		host = ""
	case c.url.Scheme == "s3": // its addresses differ by region
		way = c.transport
	default:
		way = httprange.NewSite(host, httprange.Connection{Transport: c.transport, Header: c.headers})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if hc := c.clients[host]; hc != nil {
		return hc
	}
	hc := &http.Client{Transport: httprange.Patience(way, c.storage.stall), CheckRedirect: httprange.DontFollow}
	if c.clients == nil {
		c.clients = make(map[string]*http.Client)
	}
	c.clients[host] = hc
	return hc
}

// tlsConfig is how to recognise the servers of a place.
func tlsConfig(p Place) (*tls.Config, error) {
	t := &tls.Config{InsecureSkipVerify: p.Insecure} // #nosec G402 -- the administrator asked for it
	if p.CA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(p.CA)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	if t.RootCAs, err = x509.SystemCertPool(); err != nil {
		return nil, err
	}
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificates: %s has none", p.CA)
	}
	return t, nil
}
