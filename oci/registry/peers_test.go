package registry_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/httprange"
	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci/registry"
)

func TestPeersAreAskedFirstAndTheOriginWhileTheyAreGone(t *testing.T) {
	tokens := servertest.NewTokenServer(t, "secret")
	addr := servertest.Distribution(t, tokens).Addr
	dockerConfig(t)(`{"auths":{%q:{"auth":%q}}}`, addr, authOf("me", "secret"))
	daemon := servertest.Tinyproxy(t)
	peers, err := httprange.NewProxy(httprange.ProxyOptions{
		URL: "http://" + daemon.Addr, PlainHTTP: true, Headers: map[string]string{"X-Dragonfly-Use-P2P": "true"}, Check: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peers.Close)
	repo := openAt(t, addr, registry.Options{Peers: peers})
	if err := roundTrip(repo); err != nil {
		t.Fatal(err)
	}
	through := func() int { return strings.Count(daemon.Log(), "/blobs/"+patternDesc.Digest.String()) }
	read := func() {
		t.Helper()
		if err := readPart(repo, patternDesc, pattern()); err != nil {
			t.Error(err)
		}
	}
	read()
	if through() == 0 {
		t.Fatalf("nothing went through the proxy, which says:\n%s", daemon.Log())
	}
	if strings.Contains(daemon.Log(), "/manifests/") || strings.Contains(daemon.Log(), "/uploads/") {
		t.Error("more than ranges of blobs went through the proxy")
	}
	daemon.Stop()
	for range 3 {
		read()
	}
	daemon.Restart(servertest.Listens)
	before := through()
	await.True(t, "the proxy to be used again", func() bool {
		read()
		return through() != before
	})
}

func TestPeersAreAskedForTunnelsToRegistriesWithTLS(t *testing.T) {
	f, have := newFleet(t), handler()
	fill(t, have, "team/app")
	srv := f.tlsServer(t, have, false)
	f.write(t, "registry.test", "server = %q\nca = 'ca.pem'\n", srv.URL)
	daemon := servertest.Tinyproxy(t)
	peers, err := httprange.NewProxy(httprange.ProxyOptions{URL: "http://" + daemon.Addr, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peers.Close)
	repo := openAt(t, "registry.test", registry.Options{Anonymous: true, HostsDirs: []string{f.dir}, Peers: peers})
	if err := readPart(repo, patternDesc, pattern()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(daemon.Log(), "CONNECT "+strings.TrimPrefix(srv.URL, "https://")) {
		t.Errorf("no tunnel was asked for; the proxy says:\n%s", daemon.Log())
	}
}

func TestStrictPeersHaveNoFallback(t *testing.T) {
	addr := servertest.Distribution(t, nil).Addr
	peers, err := httprange.NewProxy(httprange.ProxyOptions{URL: "http://127.0.0.1:1", Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peers.Close)
	repo := openAt(t, addr, registry.Options{Anonymous: true, Peers: peers})
	for range 2 {
		if err := roundTrip(repo); err == nil || registry.IsPermanent(err) || !strings.Contains(err.Error(), "through 127.0.0.1:1") {
			t.Errorf("error is %v", err)
		}
	}
}

func TestPeersSeeHeadersAndTheRangeButNoTokenServer(t *testing.T) {
	tokens := servertest.NewTokenServer(t, "secret")
	addr := servertest.Distribution(t, tokens).Addr
	dockerConfig(t)(`{"auths":{%q:{"auth":%q}}}`, addr, authOf("me", "secret"))
	var asked atomic.Int32
	daemon := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("X-Dragonfly-Tag") != "images" || r.Header.Get("Range") == "" || r.URL.Scheme != "http" || strings.Contains(r.URL.Path, "/token") {
			t.Errorf("the proxy is asked for %s with %v", r.URL, r.Header)
		}
		out := r.Clone(r.Context())
		out.RequestURI = ""
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = daemon.Serve(l) }()
	t.Cleanup(func() { daemon.Close() })
	peers, err := httprange.NewProxy(httprange.ProxyOptions{URL: "http://" + l.Addr().String(), PlainHTTP: true, Headers: map[string]string{"X-Dragonfly-Tag": "images"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peers.Close)
	if err := roundTrip(openAt(t, addr, registry.Options{Peers: peers})); err != nil {
		t.Error(err)
	}
	if asked.Load() == 0 {
		t.Error("the proxy was not asked")
	}
}
