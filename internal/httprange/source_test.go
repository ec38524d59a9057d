package httprange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var content = bytes.Repeat([]byte("0123456789"), 1000)

// server serves handler and counts requests.
func server(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	n := new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv, n
}

func serve(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func source(t *testing.T, srv *httptest.Server) Source {
	t.Helper()
	u, err := url.Parse(srv.URL + "/object")
	if err != nil {
		t.Fatal(err)
	}
	do := (&http.Client{Transport: NewTransport(nil), CheckRedirect: DontFollow}).Do
	return Source{URL: u, Size: int64(len(content)), Home: do, Elsewhere: do, Memory: new(Memory), Stall: 10 * time.Second}
}

func read(s Source) error {
	b, err := s.Range(context.Background(), 10, 1000)
	if err != nil {
		return err
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err == nil && !bytes.Equal(got, content[10:1010]) {
		err = errors.New("other bytes")
	}
	return err
}

func TestRedirectIsAskedForOnceWhileItHolds(t *testing.T) {
	storage, fetched := server(t, serve)
	home, asked := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, storage.URL+"/there?X-Amz-Date="+time.Now().UTC().Format("20060102T150405Z")+"&X-Amz-Expires=600&X-Amz-Signature=s", http.StatusTemporaryRedirect)
	})
	s := source(t, home)
	for range 5 {
		if err := read(s); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 1 || fetched.Load() != 5 {
		t.Errorf("5 ranges cost %d requests for the redirect and %d for the bytes", asked.Load(), fetched.Load())
	}
}

func TestRedirectThatEndsSoonIsNotRemembered(t *testing.T) {
	storage, _ := server(t, serve)
	home, asked := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, fmt.Sprintf("%s/there?Expires=%d", storage.URL, time.Now().Add(margin).Unix()), http.StatusFound)
	})
	s := source(t, home)
	for range 3 {
		if err := read(s); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 3 {
		t.Errorf("the redirect was asked for %d times", asked.Load())
	}
}

func TestRedirectThatHoldsNoMoreIsAskedForAgain(t *testing.T) {
	for name, fail := range map[string]http.HandlerFunc{
		"400": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"401": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"403": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"302": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"200": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "please log in") },
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				c.Close()
			}
		},
	} {
		var old atomic.Bool
		storage, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
			if old.Load() && r.URL.Query().Get("n") == "1" {
				fail(w, r)
				return
			}
			serve(w, r)
		})
		n := 0
		home, asked := server(t, func(w http.ResponseWriter, r *http.Request) {
			n++
			http.Redirect(w, r, fmt.Sprintf("%s/there?n=%d", storage.URL, n), http.StatusTemporaryRedirect)
		})
		s := source(t, home)
		if err := read(s); err != nil {
			t.Fatal(err)
		}
		old.Store(true)
		for range 2 {
			if err := read(s); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if asked.Load() != 2 {
			t.Errorf("%s: the redirect was asked for %d times", name, asked.Load())
		}
	}
}

func TestStorageInTroubleIsNotAskedTwice(t *testing.T) {
	var trouble atomic.Bool
	storage, fetched := server(t, func(w http.ResponseWriter, r *http.Request) {
		if trouble.Load() {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		serve(w, r)
	})
	home, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, storage.URL+"/there", http.StatusTemporaryRedirect)
	})
	s := source(t, home)
	if err := read(s); err != nil {
		t.Fatal(err)
	}
	trouble.Store(true)
	err := read(s)
	var status *StatusError
	if !errors.As(err, &status) || status.RetryAfter != 7*time.Second || fetched.Load() != 2 {
		t.Errorf("asked %d times: %v", fetched.Load(), err)
	}
}

// TestDeadStorageBehindARedirectCostsOneStallTime has where a redirect led to stop answering, then the source itself too.
func TestDeadStorageBehindARedirectCostsOneStallTime(t *testing.T) {
	const stall = 1500 * time.Millisecond
	var dead, all atomic.Bool
	hang := func(r *http.Request) bool {
		if dead.Load() && (all.Load() || r.URL.Query().Get("n") == "1") {
			<-r.Context().Done()
			return true
		}
		return false
	}
	storage, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if !hang(r) {
			serve(w, r)
		}
	})
	n := 0
	home, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if all.Load() {
			hang(r)
			return
		}
		n++
		http.Redirect(w, r, fmt.Sprintf("%s/there?n=%d", storage.URL, n), http.StatusTemporaryRedirect)
	})
	s := source(t, home)
	s.Stall = stall
	s.Home = (&http.Client{Transport: Patience(NewTransport(nil), stall), CheckRedirect: DontFollow}).Do
	s.Elsewhere = s.Home
	if err := read(s); err != nil {
		t.Fatal(err)
	}
	dead.Store(true)
	if err := read(s); err != nil { // the source says where else it is
		t.Errorf("a place that does not answer is insisted on: %v", err)
	}
	all.Store(true)
	start := time.Now()
	err := read(s)
	if !errors.Is(err, ErrStalled) || IsPermanent(err) || !strings.Contains(err.Error(), strings.TrimPrefix(home.URL, "http://")) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(start); took < stall || took > stall+stall*3/4 {
		t.Errorf("a dead storage and a dead source took %v, each may take %v", took, stall)
	}
}

func TestRedirectsHaveAnEnd(t *testing.T) {
	for name, to := range map[string]string{"to itself": "/object", "further and further": ""} {
		n := 0
		home, asked := server(t, func(w http.ResponseWriter, r *http.Request) {
			n++
			target := to
			if target == "" {
				target = fmt.Sprintf("/hop%d", n)
			}
			http.Redirect(w, r, target, http.StatusFound)
		})
		if err := read(source(t, home)); !errors.Is(err, ErrRedirects) || asked.Load() > maxRedirects+1 {
			t.Errorf("%s: %d requests, %v", name, asked.Load(), err)
		}
	}
}

func TestARedirectWithinTheServerKeepsItsCredentials(t *testing.T) {
	srv, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") == "":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/object":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		default:
			serve(w, r)
		}
	})
	s := source(t, srv)
	home := s.Home
	s.Home = func(req *http.Request) (*http.Response, error) {
		req.Header.Set("Authorization", "Bearer secret")
		return home(req)
	}
	for range 2 { // also when it is known
		if err := read(s); err != nil {
			t.Error(err)
		}
	}
}

// TestCredentialsAreNotTakenAlongToAnotherPort redirects within one machine, where net/http keeps them.
func TestCredentialsAreNotTakenAlongToAnotherPort(t *testing.T) {
	var got atomic.Value
	other, asked := server(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) })
	own, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			http.Redirect(w, r, "/second", http.StatusTemporaryRedirect)
			return
		}
		if r.Header.Get("Authorization") == "" {
			t.Error("its own host does not get the credentials again")
		}
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, own.URL+"/first", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer secret")
	resp, err := (&http.Client{Transport: NewTransport(nil), CheckRedirect: CheckRedirect}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if asked.Load() != 1 || got.Load() != "" {
		t.Errorf("after %d requests the other server has %q", asked.Load(), got.Load())
	}
}

func TestRedirectsToWhatIsNoServerAreRefused(t *testing.T) {
	for _, to := range []string{"", "file:///etc/passwd", "gopher://x/", "http://[::1", "javascript:0"} {
		home, _ := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		})
		if err := read(source(t, home)); err == nil {
			t.Errorf("%q is followed", to)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var m Memory
	for i := range maxNotes + 100 {
		m.set(fmt.Sprint(i), note{until: time.Now().Add(time.Hour)})
	}
	if len(m.m) > maxNotes {
		t.Errorf("%d notes", len(m.m))
	}
}

func TestLifeOfARedirectIsWhatItsSignatureSays(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for query, want := range map[string]time.Duration{
		"":    defaultLife,
		"a=b": defaultLife,
		"X-Amz-Date=20260102T030405Z&X-Amz-Expires=300":   300*time.Second - margin,
		"X-Amz-Date=20260102T030005Z&X-Amz-Expires=300":   60*time.Second - margin,
		"X-Goog-Date=20260102T030405Z&X-Goog-Expires=900": 900*time.Second - margin,
		"X-Amz-Date=20260102T030405Z&X-Amz-Expires=9e9":   defaultLife,
		"X-Amz-Date=20260102T030405Z&X-Amz-Expires=99999": maxLife,
		"X-Amz-Date=20200102T030405Z&X-Amz-Expires=300":   0,
		"Expires=1767323345":                              300*time.Second - margin,
		"Expires=-5":                                      0,
		"se=2026-01-02T03:14:05Z&sig=x":                   600*time.Second - margin,
		"se=2026-01-02T03:14Z":                            595*time.Second - margin,
	} {
		if got := lifeOf(&url.URL{RawQuery: query}, now); got != want {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
}

func TestSlowServersAreGivenUp(t *testing.T) {
	drip, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 10-1009/%d", len(content)))
		w.WriteHeader(http.StatusPartialContent)
		for i := range 1000 {
			_, _ = w.Write(content[10+i : 11+i])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	s := source(t, drip)
	s.Home = (&http.Client{Transport: Patience(NewTransport(nil), 300*time.Millisecond), CheckRedirect: DontFollow}).Do
	start := time.Now()
	if err := read(s); !errors.Is(err, ErrStalled) || IsPermanent(err) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestOnlyUploadsMayTakeTheirTime has a server that answers when the client has gone or the test says so.
func TestOnlyUploadsMayTakeTheirTime(t *testing.T) {
	const form, stall = "application/x-www-form-urlencoded", 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		method, kind string
		stalls       bool
	}{
		{http.MethodGet, "", true},
		{http.MethodHead, "", true},
		{http.MethodPost, form, true},
		{http.MethodPost, form + "; charset=utf-8", true},
		{http.MethodPost, "", false},
		{http.MethodPost, "application/octet-stream", false},
		{http.MethodPut, form, false},
		{http.MethodPatch, "", false},
	} {
		digested := make(chan bool)
		srv, _ := server(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-r.Context().Done():
			case <-digested:
			}
		})
		req, err := http.NewRequestWithContext(ctx, c.method, srv.URL, strings.NewReader("a=b"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", c.kind)
		if !c.stalls {
			time.AfterFunc(4*stall, func() { close(digested) })
		}
		resp, err := Patience(NewTransport(nil), stall).RoundTrip(req)
		if errors.Is(err, ErrStalled) != c.stalls || !c.stalls && err != nil {
			t.Errorf("%s of %q: %v", c.method, c.kind, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}

func TestRetryAfterIsReadAndBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for h, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-1": 0, "x": 0, "99999": maxRetryAfter, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0, "Sat, 03 Jan 2026 03:04:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(h, now); got != want {
			t.Errorf("%q: %v, want %v", h, got, want)
		}
	}
}

// elsewhereConn is a connection that seems to lead to another address.
type elsewhereConn struct {
	net.Conn
	peer net.Addr
}

func (c elsewhereConn) RemoteAddr() net.Addr { return c.peer }

func TestRedirectsToNarrowerAddressesAreRefused(t *testing.T) {
	for _, c := range []struct {
		home    string // address
		allowed bool   // to redirect to loopback
	}{{"93.184.216.34", false}, {"10.1.2.3", false}, {"fd00::1", false}, {"100.64.1.1", false}, {"127.0.0.1", true}, {"169.254.1.1", true}} {
		storage, fetched := server(t, serve)
		home, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, storage.URL+"/there", http.StatusTemporaryRedirect)
		})
		transport := NewTransport(nil)
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return elsewhereConn{conn, &net.TCPAddr{IP: net.ParseIP(c.home), Port: 80}}, err
		}
		s := source(t, home)
		site := NewSite(s.URL.Host, Connection{Transport: transport, Header: http.Header{"X-Secret": {"1"}}})
		s.Home = (&http.Client{Transport: site, CheckRedirect: DontFollow}).Do
		s.Elsewhere = s.Home
		err := read(s)
		if (err == nil) != c.allowed || (fetched.Load() == 1) != c.allowed {
			t.Errorf("from %s: %d requests there, %v", c.home, fetched.Load(), err)
		}
		if err != nil && (!errors.Is(err, ErrRefused) || !IsPermanent(err) || !strings.Contains(err.Error(), "127.0.0.1 is an address of this machine")) {
			t.Errorf("from %s: %v", c.home, err)
		}
		site.CloseIdleConnections()
	}
}

func TestWhatAProxyIsAskedForIsJudgedByItsName(t *testing.T) {
	proxy, asked := server(t, serve)
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := NewTransport(nil)
	transport.Proxy = http.ProxyURL(u)
	guard := Guard(transport, Public)
	for host, allowed := range map[string]bool{"example.com": true, "93.184.216.34": true, "10.0.0.1": false, "169.254.169.254": false, "[::1]": false, "localhost": false} {
		before := asked.Load()
		resp, err := guard.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/x", nil))
		if (err == nil) != allowed || (asked.Load() > before) != allowed {
			t.Errorf("%s: %v", host, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}
