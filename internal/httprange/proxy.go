package httprange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

const (
	// pingTimeout is how long the answer to a health check may take.
	pingTimeout = 2 * time.Second
	// defaultCheck is how long a proxy that failed is left alone.
	defaultCheck = 5 * time.Second
)

// ProxyOptions describe a proxy that is asked for ranges of blobs before their origin: the daemon of a peer-to-peer system on this node.
type ProxyOptions struct {
	URL       string            // http://127.0.0.1:4001
	Headers   map[string]string // for what goes through it
	PlainHTTP bool              // ask it for https:// URLs as if they were http://, instead of for a tunnel: it has to see what it is to share
	CA        string            // PEM file with the certificates by which it is recognised when it ends tunnels itself
	Ping      string            // URL that answers 2xx when it is well; without it, requests tell
	Check     time.Duration     // how long it is left alone after a failure, and how often it is pinged then; default 5 s
	Strict    bool              // fail when it fails, instead of asking the origin
	Log       *slog.Logger
}

// Proxy is such a proxy. Its methods may be called concurrently.
type Proxy struct {
	Fallback bool // ask the origin when it fails

	url     *url.URL
	headers http.Header
	plain   bool
	ping    string
	check   time.Duration
	log     *slog.Logger
	ca      []byte // PEM, or nil
	pinger  *http.Client

	ctx     context.Context // ends when Close is called
	cancel  context.CancelFunc
	pinging sync.WaitGroup

	mu    sync.Mutex
	until time.Time // it is not used before; zero when it is well
	busy  bool      // being pinged
}

// NewProxy checks the options. It does not connect.
func NewProxy(o ProxyOptions) (*Proxy, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("proxy %q is no http:// or https:// URL", o.URL)
	}
	if o.Ping != "" {
		if p, err := url.Parse(o.Ping); err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" {
			return nil, fmt.Errorf("the proxy's health check %q is no http:// or https:// URL", o.Ping)
		}
	}
	var ca []byte
	if o.CA != "" {
		if ca, err = os.ReadFile(o.CA); err != nil {
			return nil, fmt.Errorf("read the proxy's certificates: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("read the proxy's certificates: %s has none", o.CA)
		}
	}
	p := &Proxy{
		Fallback: !o.Strict, url: u, headers: make(http.Header), plain: o.PlainHTTP, ping: o.Ping, check: o.Check, log: o.Log,
		ca: ca, pinger: &http.Client{Transport: NewTransport(nil), Timeout: pingTimeout},
	}
	for k, v := range o.Headers {
		p.headers.Set(k, v)
	}
	if p.check <= 0 {
		p.check = defaultCheck
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// Close ends health checks.
func (p *Proxy) Close() {
	p.mu.Lock() // no health check begins after this
	p.cancel()
	p.mu.Unlock()
	p.pinging.Wait()
	p.pinger.CloseIdleConnections()
}

// Transport returns a round tripper through the proxy for requests to host, at whose other end is a server that config recognises, or the proxy itself; requests to other hosts, such as
// token servers, take the other way.
func (p *Proxy) Transport(host string, config *tls.Config, others http.RoundTripper) (*ThroughProxy, error) {
	config = config.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if p.ca != nil {
		if config.RootCAs == nil {
			pool, err := x509.SystemCertPool()
			if err != nil {
				return nil, err
			}
			config.RootCAs = pool
		} else {
			config.RootCAs = config.RootCAs.Clone()
		}
		config.RootCAs.AppendCertsFromPEM(p.ca)
	}
	t := NewTransport(config)
	t.Proxy = http.ProxyURL(p.url)
	return &ThroughProxy{p: p, transport: t, host: host, others: others}, nil
}

// ThroughProxy is a round tripper through a proxy.
type ThroughProxy struct {
	p         *Proxy
	transport *http.Transport
	host      string
	others    http.RoundTripper
}

// CloseIdleConnections closes those through the proxy.
func (t *ThroughProxy) CloseIdleConnections() { t.transport.CloseIdleConnections() }

// RoundTrip implements http.RoundTripper.
func (t *ThroughProxy) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != t.host {
		return t.others.RoundTrip(req)
	}
	out := req.Clone(req.Context())
	for k, v := range t.p.headers {
		out.Header[k] = v
	}
	if t.p.plain {
		out.URL.Scheme = "http"
	}
	resp, err := t.transport.RoundTrip(out)
	if err != nil {
		return nil, fmt.Errorf("through %s: %w", t.p.url.Host, err)
	}
	if who := resp.Header.Get(errorTypeHeader); resp.StatusCode >= 400 && who != "" && who != "backend" {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("through %s: %w: %s, which is its own error", t.p.url.Host, errProxy, resp.Status)
	}
	resp.Request = req // where it seems to come from
	return resp, nil
}

// errorTypeHeader is what Dragonfly's daemon says of an error: "backend" if the origin answered so, "proxy" or "dfdaemon" if it did itself.
const errorTypeHeader = "X-Dragonfly-Error-Type"

// errProxy says that the proxy, and not the origin, is in trouble, whatever the status.
var errProxy = errors.New("the proxy answers")

// Usable reports whether the proxy is worth asking. After a failure it is not for a while, and then, if there is a health check, not before that succeeds.
func (p *Proxy) Usable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.until.IsZero():
		return true
	case time.Now().Before(p.until) || p.busy:
		return !p.Fallback
	case p.ping == "":
		return true
	case p.ctx.Err() == nil:
		p.busy = true
		p.pinging.Go(p.tryPing)
	}
	return !p.Fallback
}

// tryPing asks the health check once.
func (p *Proxy) tryPing() {
	err := p.pingOnce()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	if err != nil {
		p.until = time.Now().Add(p.check)
		return
	}
	p.until = time.Time{}
	p.log.Info("proxy is used again", "proxy", p.url.Host)
}

func (p *Proxy) pingOnce() error {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, p.ping, nil)
	if err != nil {
		return err
	}
	resp, err := p.pinger.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // only the connection's fate depends on it
	if resp.StatusCode/100 != 2 {
		return errors.New(resp.Status)
	}
	return nil
}

// Worked notes that it brought something.
func (p *Proxy) Worked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.until.IsZero() {
		p.log.Info("proxy is used again", "proxy", p.url.Host)
	}
	p.until = time.Time{}
}

// Failed notes that a request through it failed with err. What the origin said through it, such as that something does not exist, is no failure of the proxy.
func (p *Proxy) Failed(err error) {
	if status := (*StatusError)(nil); errors.As(err, &status) && status.Permanent() && status.Code != http.StatusProxyAuthRequired {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until.IsZero() {
		p.log.Warn("proxy failed", "proxy", p.url.Host, "fallback", p.Fallback, "err", Redact(err))
	}
	p.until = time.Now().Add(p.check)
}
