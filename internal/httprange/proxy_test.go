package httprange

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/await"
)

func TestProxyOptionsAreChecked(t *testing.T) {
	for _, o := range []ProxyOptions{{}, {URL: "127.0.0.1:4001"}, {URL: "socks5://x"}, {URL: "http://x", Ping: "y"}, {URL: "http://x", CA: "/does/not/exist"}, {URL: "http://x", CA: "/dev/null"}} {
		if p, err := NewProxy(o); err == nil {
			p.Close()
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestFailedProxyIsUsedAgainWhenItsHealthCheckSucceeds(t *testing.T) {
	well := make(chan bool, 1)
	health, pings := server(t, func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-well:
			well <- true
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	p, err := NewProxy(ProxyOptions{URL: "http://127.0.0.1:1", Ping: health.URL, Check: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !p.Usable() {
		t.Fatal("it is not used although nothing is known against it")
	}
	p.Failed(ErrStalled)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if p.Usable() {
			t.Fatal("it is used although its health check fails")
		}
	}
	if n := pings.Load(); n < 2 || n > 12 {
		t.Errorf("it was pinged %d times in 300 ms", n)
	}
	well <- true
	await.True(t, "it to be used again", p.Usable)
}

func TestErrorsOfTheProxyItselfAreTold(t *testing.T) {
	for who, own := range map[string]bool{"": false, "backend": false, "proxy": true, "dfdaemon": true} {
		daemon, _ := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(errorTypeHeader, who)
			w.WriteHeader(http.StatusForbidden)
		})
		p, err := NewProxy(ProxyOptions{URL: daemon.URL, PlainHTTP: true})
		if err != nil {
			t.Fatal(err)
		}
		through, err := p.Transport("registry.test", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := through.RoundTrip(httptest.NewRequest(http.MethodGet, "https://registry.test/v2/", nil))
		if (err != nil) != own {
			t.Errorf("%q: %v", who, err)
		}
		if err == nil {
			resp.Body.Close()
			err = NewStatusError(resp)
		}
		p.Failed(err)
		if p.Usable() == own {
			t.Errorf("%q: used afterwards is %v", who, !own)
		}
		through.CloseIdleConnections()
		p.Close()
	}
}

func TestWhatTheOriginSaysIsNoFailureOfTheProxy(t *testing.T) {
	p, err := NewProxy(ProxyOptions{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Failed(&StatusError{Code: http.StatusNotFound})
	if !p.Usable() {
		t.Error("it is not used any more")
	}
	p.Failed(&StatusError{Code: http.StatusProxyAuthRequired})
	if p.Usable() {
		t.Error("it is used although it wants us to log in")
	}
}
