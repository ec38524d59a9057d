package httprange

import (
	"crypto/tls"
	"net/http"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	keepAlive   = 30 * time.Second
	idleTimeout = 90 * time.Second
	// maxIdle bounds the connections that are kept open for a host: enough for an engine's parallel fetches.
	maxIdle = 16
)

// NewTransport returns a transport for parallel ranges. It heeds the environment's HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
func NewTransport(config *tls.Config) *http.Transport {
	t := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     newDialer(dialTimeout).DialContext,
		TLSClientConfig: config,
	}
	Tune(t)
	return t
}

// Tune sets what parallel ranges want of a transport: a bounded number of parallel connections instead of one that all share, and bytes as they are.
func Tune(t *http.Transport) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	t.Protocols = protocols
	t.ForceAttemptHTTP2 = false
	t.TLSHandshakeTimeout = dialTimeout
	t.IdleConnTimeout = idleTimeout
	t.MaxIdleConns = 4 * maxIdle
	t.MaxIdleConnsPerHost = maxIdle
	t.DisableCompression = true // blobs are bytes, not content to be negotiated
}
