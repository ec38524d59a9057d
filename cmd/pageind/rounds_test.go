package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// listener is a registry's front door that notes what pagein asks for.
type listener struct {
	http.Handler

	mu     sync.Mutex
	asked  []string
	listed chan struct{} // closed when it asks what is attached to an image
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), "pagein") {
		l.note(r.Method + " " + r.URL.Path)
	}
	l.Handler.ServeHTTP(w, r)
}

func (l *listener) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, what)
	if l.listed != nil && strings.Contains(what, "/referrers/") {
		close(l.listed)
		l.listed = nil
	}
}

// expect has the next manifest wait until it is asked, too, what is attached to something.
func (l *listener) expect(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, listed := l.Handler, make(chan struct{})
	l.listed, l.asked = listed, nil
	l.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.UserAgent(), "pagein") && strings.Contains(r.URL.Path, "/manifests/sha256:") {
			select {
			case <-listed:
			case <-time.After(10 * time.Second):
				t.Error("what is attached to the image is only asked for when its manifest is there")
			}
		}
		next.ServeHTTP(w, r)
	})
}

// take returns what was asked for since the last time, without identities.
func (l *listener) take() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	kinds := make(map[string]int)
	for _, a := range l.asked {
		words := strings.Split(a, "/")
		kinds[words[len(words)-2]]++
	}
	l.asked = nil
	return kinds
}

// TestAPullAsksTheRegistryForNothingTwice counts the requests of a pull and of the mount that it ends with: each costs a round trip, unless it is made beside others.
func TestAPullAsksTheRegistryForNothingTwice(t *testing.T) {
	r := newRuntimeLab(t)
	front := &listener{Handler: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.registry})}
	srv := httptest.NewServer(front)
	t.Cleanup(srv.Close)
	r.registry = strings.TrimPrefix(srv.URL, "http://")
	first, second := r.push("first", r.layers[:2]...), r.push("second", r.layers...)
	r.pagein("convert", "--quiet", first)
	r.pagein("convert", "--quiet", second)

	front.expect(t)
	r.pull(first)
	// The image's manifest, the artifact's, and the tag that lists the latter, as distribution's registry has no list of its own; then metadata and a map for each layer with data.
	if got := front.take(); got["manifests"] != 3 || got["referrers"] != 1 || got["blobs"] != 3 || len(got) != 3 {
		t.Errorf("the first pull asks for %v", got)
	}
	r.run(first, "true")
	front.take()
	r.pull(second)
	if got := front.take(); got["manifests"] != 3 || got["blobs"] != 1 || len(got) != 2 {
		t.Errorf("the second pull asks for %v, though it is known what the registry lacks, and the maps are there", got)
	}
}
