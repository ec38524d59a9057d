package httprange

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Reach says from where an address can be reached. A server may send its clients to addresses that are as widely reachable as its own, or more, and to no others: else
// somebody on the internet could make this machine ask what only this machine, or its network, may be asked (SSRF).
type Reach int

// The reaches, from the widest to the narrowest.
const (
	Public  Reach = iota // from everywhere
	Private              // within a site: RFC 1918, RFC 4193, RFC 6598
	Local                // this machine and its link: loopback, link-local (where clouds have their metadata services), unspecified, multicast
)

// sharedSpace is RFC 6598's, behind carriers' address translation. Clouds use it within.
func sharedSpace(a netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(a)
}

// ReachOf classifies an address.
func ReachOf(a netip.Addr) Reach {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid(), a.IsLoopback(), a.IsLinkLocalUnicast(), a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return Local
	case a.IsPrivate(), sharedSpace(a):
		return Private
	}
	return Public
}

// hostReach classifies a host by what its name alone tells: a name that is no address may be anywhere, and counts as public.
func hostReach(host string) Reach {
	if a, err := netip.ParseAddr(host); err == nil {
		return ReachOf(a)
	}
	if host == "localhost" {
		return Local
	}
	return Public
}

// WithPeer returns a context whose requests report the reach of the address that they were sent to. Behind a proxy that is the host's reach as its name tells it,
// because the connection ends at the proxy.
func WithPeer(ctx context.Context, t *http.Transport, req *http.Request, report func(Reach)) context.Context {
	if proxied(t, req) {
		report(hostReach(req.URL.Hostname()))
		return ctx
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if a, err := netip.ParseAddrPort(info.Conn.RemoteAddr().String()); err == nil {
			report(ReachOf(a.Addr()))
		}
	}})
}

func proxied(t *http.Transport, req *http.Request) bool {
	if t.Proxy == nil {
		return false
	}
	u, err := t.Proxy(req)
	return err != nil || u != nil
}

// Guard returns a round tripper like t that connects to nothing of a narrower reach than the given one. The address is checked when the connection is made, so a name
// that resolves to something else the next time does not help; only what a proxy is asked for is judged by its name.
func Guard(t *http.Transport, narrowest Reach) http.RoundTripper {
	direct := t.Clone()
	direct.Proxy = nil
	dialer := newDialer(dialTimeout)
	dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return narrowest.allows(ReachOf(a.Addr()), a.Addr().String())
	}
	direct.DialContext = dialer.DialContext
	if t.Proxy == nil {
		return direct
	}
	return &proxyGuard{direct: direct, proxied: t, proxy: t.Proxy, narrowest: narrowest}
}

func (r Reach) allows(other Reach, host string) error {
	if other > r {
		return fmt.Errorf("%w: %s is %s", ErrRefused, host, other)
	}
	return nil
}

// proxyGuard guards requests of which some go through a proxy, whose own address may be any.
type proxyGuard struct {
	direct, proxied *http.Transport
	proxy           func(*http.Request) (*url.URL, error)
	narrowest       Reach
}

// RoundTrip implements http.RoundTripper.
func (g *proxyGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	u, err := g.proxy(req)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return g.direct.RoundTrip(req)
	}
	host := req.URL.Hostname()
	if err := g.narrowest.allows(hostReach(host), host); err != nil {
		return nil, err
	}
	return g.proxied.RoundTrip(req)
}

// CloseIdleConnections closes those of the transport below.
func (g *proxyGuard) CloseIdleConnections() { g.direct.CloseIdleConnections() }

// String says what kind of address it is.
func (r Reach) String() string {
	switch r {
	case Public:
		return "a public address"
	case Private:
		return "a private address"
	}
	return "an address of this machine or its link"
}

func newDialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: keepAlive}
}
