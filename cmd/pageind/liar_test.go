package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
)

// liar is a registry that has what another one has, and answers with other bytes for some of it.
type liar struct {
	addr string

	mu    sync.Mutex
	lies  map[string]func([]byte) []byte // by digest or tag
	asked map[string]bool                // digests and tags
}

func newLiar(t testing.TB, addr string) *liar {
	t.Helper()
	l := &liar{lies: make(map[string]func([]byte) []byte), asked: make(map[string]bool)}
	upstream := &url.URL{Scheme: "http", Host: addr}
	honest := httputil.NewSingleHostReverseProxy(upstream)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		lie := l.lies[path.Base(r.URL.Path)]
		l.asked[path.Base(r.URL.Path)] = true
		l.mu.Unlock()
		if lie == nil || r.Method != http.MethodGet {
			honest.ServeHTTP(w, r)
			return
		}
		resp, err := http.Get(upstream.JoinPath(r.URL.Path).String()) // #nosec G107 -- a test's own
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		for _, h := range []string{"Content-Type", "Docker-Content-Digest"} {
			if v := resp.Header.Get(h); v != "" {
				w.Header().Set(h, v)
			}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(lie(b)))
	}))
	t.Cleanup(srv.Close)
	l.addr = strings.TrimPrefix(srv.URL, "http://")
	return l
}

// lie has the registry answer with other bytes, or with the right ones again if change is nil.
func (l *liar) lie(name string, change func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies[name] = change
}

// wasAsked reports whether anybody wanted what has a digest or tag.
func (l *liar) wasAsked(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[name]
}

// The ways to change bytes.

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func truncated(b []byte) []byte { return b[:len(b)/2] }

func swapped(other []byte) func([]byte) []byte {
	return func([]byte) []byte { return other }
}
