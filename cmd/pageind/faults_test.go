package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/node/control"
)

// faulty is a registry of which some repositories misbehave when blobs are read by range.
type faulty struct {
	good http.Handler
	addr string
	srv  *http.Server

	mu     sync.Mutex
	faults map[string]fault // by repository
}

// fault answers in place of the registry. Whatever waits in it ends with the request.
type fault func(w http.ResponseWriter, r *http.Request, good http.Handler)

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{good: registry.New(registry.Logger(quiet())), faults: make(map[string]fault)}
	f.open(t, "127.0.0.1:0")
	t.Cleanup(func() { f.srv.Close() })
	return f
}

// open has the registry answer at an address.
func (f *faulty) open(t *testing.T, addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = listener.Addr().String()
	f.srv = &http.Server{Handler: f}
	go func(srv *http.Server) { _ = srv.Serve(listener) }(f.srv)
}

func (f *faulty) set(repository string, what fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[repository] = what
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	what := f.faults[strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")[0]]
	f.mu.Unlock()
	if what == nil || r.Header.Get("Range") == "" {
		f.good.ServeHTTP(w, r)
		return
	}
	what(w, r, f.good)
}

// answers is a fault that is a status.
func answers(code int, header ...string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// changed is a fault that changes right answers.
func changed(change func(h http.Header, body []byte) []byte) fault {
	return func(w http.ResponseWriter, r *http.Request, good http.Handler) {
		answer := httptest.NewRecorder()
		good.ServeHTTP(answer, r)
		body := change(answer.Header(), answer.Body.Bytes())
		for k, v := range answer.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	}
}

// hangs is a fault that is no answer.
func hangs(_ http.ResponseWriter, r *http.Request, _ http.Handler) { <-r.Context().Done() }

// drips is a fault that is a byte each second.
func drips(w http.ResponseWriter, r *http.Request, good http.Handler) {
	answer := httptest.NewRecorder()
	good.ServeHTTP(answer, r)
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(answer.Code)
	for _, b := range answer.Body.Bytes() {
		_, err := w.Write([]byte{b})
		if err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// resets is a fault that ends the connection.
func resets(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// leads is a fault that is a redirect to somewhere.
func leads(where string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, where, http.StatusTemporaryRedirect)
	}
}

// outdated returns the URL of a server whose certificate has expired.
func outdated(t *testing.T) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(servertest.Certificate(t, time.Now().Add(-time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = quiet()
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}

// smallImages makes trees of one file of 3 MiB each, called f, that differ.
func (l *lab) smallImages(n int) (trees []string) {
	l.Helper()
	for i := range n {
		tree := filepath.Join(l.dir, fmt.Sprintf("source-%d", i))
		b := make([]byte, 3<<20)
		_, _ = rand.NewChaCha8([32]byte{1, byte(i)}).Read(b)
		if err := errors.Join(os.Mkdir(tree, 0o755), os.WriteFile(filepath.Join(tree, "f"), b, 0o644)); err != nil {
			l.Fatal(err)
		}
		trees = append(trees, tree)
	}
	return trees
}

// public is the repository whose registry has a public name, and is reached through a proxy, which is the server itself.
const public = "public"

// TestFaultsOfAServerCostErrorsAndNothingElse has a registry misbehave in every way at once, each in a repository of its own: readers of these get errors at their deadline, the status says
// why, a sound image beside them reads as ever, and when all is well again so do the others, without a restart.
func TestFaultsOfAServerCostErrorsAndNothingElse(t *testing.T) {
	beside(t)
	nobody := strings.Repeat("x", 64) + ".invalid" // no name server has to be asked for that
	cases := []struct {
		name string
		does fault
		says string
	}{
		{"resets", resets, "connection reset"},
		{"hangs", hangs, "no answer"},
		{"drips", drips, "no answer"},
		{"s401", answers(http.StatusUnauthorized), "401"},
		{"login", answers(http.StatusUnauthorized, "Www-Authenticate", `Basic realm="x"`), "config.json"}, // which is truncated
		{"s403", answers(http.StatusForbidden), "403"},
		{"s404", answers(http.StatusNotFound), "404"},
		{"s416", answers(http.StatusRequestedRangeNotSatisfiable), "416"},
		{"s429", answers(http.StatusTooManyRequests), "429"},
		{"later", answers(http.StatusTooManyRequests, "Retry-After", "1"), "429"},
		{"s500", answers(http.StatusInternalServerError), "500"},
		{"s503", answers(http.StatusServiceUnavailable, "Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"), "503"},
		{"loops", leads("?"), "redirects"},
		{"dns", leads("http://" + nobody + "/"), "no such host"},
		{"expired", leads(outdated(t)), "certificate has expired"},
		{public, leads("http://10.0.0.1/"), "10.0.0.1 is a private address"},
		{"short", changed(func(_ http.Header, b []byte) []byte { return b[:len(b)/2] }), "EOF"},
		{"wrong", changed(func(_ http.Header, b []byte) []byte { b[0] ^= 1; return b }), "corrupt"},
		{"range", changed(func(h http.Header, b []byte) []byte { h.Set("Content-Range", "bytes 0-1/2"); return b }), "Content-Range"},
		{"length", changed(func(h http.Header, b []byte) []byte {
			h.Set("Content-Length", fmt.Sprint(len(b)-1))
			return b[:len(b)-1]
		}), "Content-Length"},
	}
	dockerConfig := t.TempDir()
	if err := os.WriteFile(filepath.Join(dockerConfig, "config.json"), []byte(`{"auths": {`), 0o600); err != nil {
		t.Fatal(err)
	}

	l, server := newLab(t), newFaulty(t)
	l.env = []string{"DOCKER_CONFIG=" + dockerConfig, "HTTP_PROXY=http://" + server.addr, "NO_PROXY=" + nobody} // what is at loopback needs no proxy
	l.start("--read-deadline", "1s")
	host := func(repository string) string {
		if repository == public {
			return "registry.example"
		}
		return server.addr
	}
	trees := l.smallImages(len(cases) + 1)
	targets := make([]string, len(trees))
	for i, tree := range trees {
		name := "sound"
		if i < len(cases) {
			name = cases[i].name
		}
		ref := host(name) + "/" + name + ":1"
		l.pagein("--plain-http", "convert", "dir:"+tree, ref)
		targets[i] = l.target(name)
		l.pagein("--plain-http", "mount", ref, targets[i])
	}
	for _, c := range cases {
		server.set(c.name, c.does)
	}

	var readers sync.WaitGroup
	for i, c := range cases {
		readers.Go(func() {
			if _, err := os.ReadFile(filepath.Join(targets[i], "f")); !errors.Is(err, unix.EIO) {
				t.Errorf("%s: got %v, want %v", c.name, err, unix.EIO)
			}
		})
	}
	l.readAll(trees[len(cases)], targets[len(cases)])
	readers.Wait()
	problem := func(target string) string {
		for _, img := range l.status().Images {
			if len(img.Targets) > 0 && img.Targets[0] == target {
				return img.Problem
			}
		}
		return ""
	}
	for i, c := range cases {
		for _, word := range []string{host(c.name) + "/" + c.name + "@sha256:", "bytes ", c.says} {
			l.waitFor(fmt.Sprintf("the problem of %s to say %q", c.name, word), func() bool { return strings.Contains(problem(targets[i]), word) })
		}
	}
	for _, c := range cases {
		server.set(c.name, nil)
	}
	for i := range cases {
		l.readAll(trees[i], targets[i])
	}
	for _, img := range l.status().Images {
		if img.Problem != "" || img.State == control.Failing {
			t.Errorf("when all is well again: state %q, problem %q", img.State, img.Problem)
		}
	}
}

// TestAServerThatIsGoneAndComesBackIsAskedAgain has nobody listen at the registry's address for a while.
func TestAServerThatIsGoneAndComesBackIsAskedAgain(t *testing.T) {
	beside(t)
	l, server := newLab(t), newFaulty(t)
	tree, ref := l.bigFiles("a"), server.addr+"/app:1"
	l.pagein("convert", "dir:"+tree, ref)
	l.start("--read-deadline", "1s")
	target := l.mount(ref, "a")
	if err := server.srv.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(target, "a")); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want %v", err, unix.EIO)
	}
	for _, word := range []string{server.addr + "/app@sha256:", "bytes ", "refused"} {
		if said := l.status().Images[0].Problem; !strings.Contains(said, word) {
			t.Errorf("the problem does not say %q: %q", word, said)
		}
	}
	server.open(t, server.addr)
	l.readAll(tree, target)
}
