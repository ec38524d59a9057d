package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
	"oras.land/oras-go/v2/content"
)

// fleet is a registry and its mirrors, which have the same content and note who was asked for what.
type fleet struct {
	dir string // of hosts.toml directories

	mu     sync.Mutex
	asked  []string
	broken map[string]http.HandlerFunc // what a server does instead
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	return &fleet{dir: t.TempDir(), broken: make(map[string]http.HandlerFunc)}
}

// server starts a server with the given name in front of h.
func (f *fleet) server(t *testing.T, name string, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(f.note(name, h))
	t.Cleanup(srv.Close)
	return srv
}

func (f *fleet) note(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, name)
		instead := f.broken[name]
		f.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// instead has a server do something else, or what it does if h is nil.
func (f *fleet) instead(name string, h http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken[name] = h
}

// who returns who was asked since the last call.
func (f *fleet) who() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.asked = nil }()
	return strings.Join(slices.Compact(f.asked), " ")
}

// write writes the hosts.toml of a registry.
func (f *fleet) write(t *testing.T, host, format string, args ...any) {
	t.Helper()
	dir := filepath.Join(f.dir, host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fleet) open(t *testing.T, host string) *registry.Repository {
	t.Helper()
	return openAt(t, host, registry.Options{Anonymous: true, HostsDirs: []string{"/does/not/exist", f.dir}, Stall: 3 * time.Second})
}

// fill stores the pattern in a registry.
func fill(t *testing.T, h http.Handler, repository string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	client := registrytest.Client(t)
	repo, err := client.Repository(parse(t, strings.TrimPrefix(srv.URL, "http://")+"/"+repository))
	if err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(repo); err != nil {
		t.Fatal(err)
	}
}

var patternDesc = content.NewDescriptorFromBytes("application/octet-stream", pattern())

func TestMirrorsAreAskedInOrderAndTheRegistryLast(t *testing.T) {
	f, have := newFleet(t), handler()
	fill(t, have, "team/app")
	a, b, origin := f.server(t, "a", have), f.server(t, "b", have), f.server(t, "origin", have)
	f.write(t, "registry.test", "server = %q\n[host.%q]\ncapabilities = ['pull']\n[host.%q]\ncapabilities = ['pull', 'resolve']\n", origin.URL, a.URL, b.URL)
	repo := f.open(t, "registry.test")
	read := func(want string) {
		t.Helper()
		if err := readPart(repo, patternDesc, pattern()); err != nil {
			t.Error(err)
		}
		if who := f.who(); who != want {
			t.Errorf("asked were %q, want %q", who, want)
		}
	}
	unavailable := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	notFound := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	read("a")
	f.instead("a", unavailable)
	read("a b")
	read("b") // a is left alone
	f.instead("b", notFound)
	read("b origin")
	read("origin")
	f.instead("a", nil)
	time.Sleep(2100 * time.Millisecond)
	read("a") // and back

	// Manifests by tag come only from who may resolve.
	if _, err := repo.Resolve(context.Background(), "latest"); err == nil {
		t.Error("there is no tag")
	}
	if who := f.who(); strings.Contains(who, "a") || !strings.HasSuffix(who, "origin") {
		t.Errorf("asked for a tag were %q", who)
	}
}

func TestMirrorThatDoesNotAnswerLeavesTimeForTheRegistry(t *testing.T) {
	f, have := newFleet(t), handler()
	fill(t, have, "team/app")
	a, origin := f.server(t, "a", have), f.server(t, "origin", have)
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	f.instead("a", hang)
	f.write(t, "registry.test", "server = %q\n[host.%q]\n", origin.URL, a.URL)
	repo := f.open(t, "registry.test")
	for range 2 {
		if err := readPart(repo, patternDesc, pattern()); err != nil {
			t.Fatal(err)
		}
	}
	if who := f.who(); who != "a origin" {
		t.Errorf("asked were %q", who)
	}
	f.instead("origin", hang)
	fresh := openAt(t, "registry.test", registry.Options{Anonymous: true, HostsDirs: []string{f.dir}, Stall: 600 * time.Millisecond}) // to which the mirror has done nothing yet
	err := readPart(fresh, patternDesc, pattern())
	for _, want := range []string{a.URL + ": no answer from the server for 200ms", strings.TrimPrefix(origin.URL, "http://") + ": no answer from the server for 600ms"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestWrongBytesOfAMirrorAreAskedForElsewhere(t *testing.T) {
	f, have := newFleet(t), handler()
	fill(t, have, "team/app")
	a, origin := f.server(t, "a", have), f.server(t, "origin", have)
	f.write(t, "registry.test", "server = %q\n[host.%q]\n", origin.URL, a.URL)
	repo := f.open(t, "registry.test")
	r, err := repo.Range(context.Background(), patternDesc, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	r.(interface{ Reject() }).Reject()
	r.Close()
	if err := readPart(repo, patternDesc, pattern()); err != nil {
		t.Error(err)
	}
	if who := f.who(); who != "a origin" {
		t.Errorf("asked were %q", who)
	}
}

func TestAllThatFailedIsTold(t *testing.T) {
	f := newFleet(t)
	a := f.server(t, "a", http.NotFoundHandler())
	origin := f.server(t, "origin", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	f.write(t, "registry.test", "server = %q\n[host.%q]\n", origin.URL, a.URL)
	err := readPart(f.open(t, "registry.test"), patternDesc, pattern())
	if err == nil || registry.IsPermanent(err) {
		t.Fatalf("error is %v, want one that may go away: only the mirror does not have it", err)
	}
	for _, want := range []string{"registry.test/team/app@sha256:", "bytes 5 to 104", strings.TrimPrefix(a.URL, "http://") + " answers 404", strings.TrimPrefix(origin.URL, "http://") + " answers 502"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestHostsTomlIsFoundAsContainerdFindsIt(t *testing.T) {
	for dir, host := range map[string]string{
		"registry.test":        "registry.test",
		"registry.test:5000":   "registry.test:5000",
		"registry2.test_5000_": "registry2.test:5000",
		"_default":             "anything.test",
		"docker.io":            "docker.io",
	} {
		f, have := newFleet(t), handler()
		fill(t, have, "team/app")
		mirror := f.server(t, "mirror", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("ns") != host {
				t.Errorf("%s: the mirror was asked for namespace %q", dir, r.URL.Query().Get("ns"))
			}
			have.ServeHTTP(w, r)
		}))
		f.write(t, dir, "[host.%q]\n", mirror.URL)
		if err := readPart(f.open(t, host), patternDesc, pattern()); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestHostsTomlSaysPathAndHeaders(t *testing.T) {
	f, have := newFleet(t), handler()
	fill(t, have, "team/app")
	for name, c := range map[string]struct{ toml, path string }{
		"plain":         {"[host.%q]\n[host.%[1]q.header]\nX-Test = 'yes'\n", "/v2/team/app/"},
		"with a path":   {"[host.'%s/proxy']\n[host.'%[1]s/proxy'.header]\nX-Test = ['yes']\n", "/proxy/v2/team/app/"},
		"override_path": {"[host.'%s/api']\noverride_path = true\n[host.'%[1]s/api'.header]\nX-Test = 'yes'\n", "/api/team/app/"},
	} {
		mirror := f.server(t, "mirror", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, c.path) || r.Header.Get("X-Test") != "yes" {
				t.Errorf("%s: asked for %s with X-Test: %q", name, r.URL.Path, r.Header.Get("X-Test"))
			}
			r.URL.Path = "/v2/team/app/" + strings.TrimPrefix(r.URL.Path, c.path)
			have.ServeHTTP(w, r)
		}))
		f.write(t, "registry.test", c.toml, mirror.URL)
		if err := readPart(f.open(t, "registry.test"), patternDesc, pattern()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tlsServer starts a server that wants client certificates if clients is not nil, and writes its certificate and key beside a hosts.toml.
func (f *fleet) tlsServer(t *testing.T, h http.Handler, wantClient bool) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	if wantClient {
		srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert} // #nosec G402 -- a test
	}
	srv.Config.ErrorLog = quietLog()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	cert := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(f.dir, "registry.test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return srv
}

func TestHostsTomlSaysWhomToTrustAndWhoWeAre(t *testing.T) {
	have := handler()
	fill(t, have, "team/app")
	for name, c := range map[string]struct {
		toml   string
		client bool
		works  bool
	}{
		"unknown authority":  {"", false, false},
		"skip_verify":        {"skip_verify = true", false, true},
		"ca":                 {"ca = 'ca.pem'", false, true},
		"no client":          {"ca = 'ca.pem'", true, false},
		"client certificate": {"ca = ['ca.pem']\nclient = [['ca.pem', 'key.pem']]", true, true},
	} {
		f := newFleet(t)
		srv := f.tlsServer(t, have, c.client)
		f.write(t, "registry.test", "server = %q\n%s\n", srv.URL, c.toml)
		if err := readPart(f.open(t, "registry.test"), patternDesc, pattern()); (err == nil) != c.works {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHostsTomlMayChangeWhileMounted(t *testing.T) {
	f, have := newFleet(t), handler()
	fill(t, have, "team/app")
	a, b := f.server(t, "a", have), f.server(t, "b", have)
	f.write(t, "registry.test", "server = %q\n", a.URL)
	repo := f.open(t, "registry.test")
	if err := readPart(repo, patternDesc, pattern()); err != nil {
		t.Fatal(err)
	}
	f.write(t, "registry.test", "server = %q # moved\n", b.URL)
	registry.LookAgain(repo)
	if err := readPart(repo, patternDesc, pattern()); err != nil {
		t.Fatal(err)
	}
	f.write(t, "registry.test", "server = %q\nca = 'missing.pem'\n", a.URL)
	registry.LookAgain(repo)
	if err := readPart(repo, patternDesc, pattern()); err != nil {
		t.Errorf("a configuration that cannot be used: %v", err)
	}
	if who := f.who(); who != "a b" {
		t.Errorf("asked were %q", who)
	}
}

func TestPushesGoWhereTheyMay(t *testing.T) {
	f, have := newFleet(t), handler()
	mirror, origin := f.server(t, "mirror", handler()), f.server(t, "origin", http.StripPrefix("/sub", have))
	f.write(t, "registry.test", "server = '%s/sub'\n[host.%q]\ncapabilities = ['pull', 'resolve']\n", origin.URL, mirror.URL)
	repo := f.open(t, "registry.test")
	ctx := context.Background()
	if err := repo.Push(ctx, patternDesc, bytes.NewReader(pattern())); err != nil {
		t.Fatal(err)
	}
	manifest := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/octet-stream","digest":"` +
		patternDesc.Digest.String() + `","size":10000},"layers":[]}`)
	desc := content.NewDescriptorFromBytes("application/vnd.oci.image.manifest.v1+json", manifest)
	if err := repo.PushReference(ctx, desc, struct{ io.Reader }{bytes.NewReader(manifest)}, "v1"); err != nil {
		t.Fatal(err)
	}
	if who := f.who(); who != "origin" {
		t.Errorf("pushed to %q", who)
	}
	if got, err := repo.Resolve(ctx, "v1"); err != nil || got.Digest != desc.Digest {
		t.Errorf("resolved %s, %v", got.Digest, err)
	}
	if who := f.who(); who != "mirror origin" {
		t.Errorf("asked for a tag were %q", who)
	}
	if err := readPart(repo, patternDesc, pattern()); err != nil {
		t.Error(err)
	}
}

func TestRegistryNobodyMayPullFromIsReported(t *testing.T) {
	f := newFleet(t)
	srv := f.server(t, "a", handler())
	f.write(t, "registry.test", "server = %q\ncapabilities = ['push']\n", srv.URL)
	err := readPart(f.open(t, "registry.test"), patternDesc, pattern())
	if err == nil || !strings.Contains(err.Error(), "hosts.toml") || f.who() != "" {
		t.Errorf("error is %v", err)
	}
	if _, err := f.open(t, "registry.test").Resolve(context.Background(), "v1"); err == nil || !strings.Contains(err.Error(), "hosts.toml") {
		t.Errorf("error is %v", err)
	}
}

func TestEndedContextIsNobodysFault(t *testing.T) {
	f, have := newFleet(t), handler()
	fill(t, have, "team/app")
	a, origin := f.server(t, "a", have), f.server(t, "origin", have)
	f.write(t, "registry.test", "server = %q\n[host.%q]\n", origin.URL, a.URL)
	repo := f.open(t, "registry.test")
	ctx, cancel := context.WithCancel(context.Background())
	f.instead("a", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := repo.Range(ctx, patternDesc, 0, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	f.instead("a", nil)
	f.who()
	if err := readPart(repo, patternDesc, pattern()); err != nil || f.who() != "a" {
		t.Errorf("the mirror is avoided although it did nothing wrong: %v", err)
	}
}
