package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/oci/registry"
)

// given is a source of credentials that a test can change.
type given struct {
	mu      sync.Mutex
	name    string
	has     registry.Credential
	fails   error
	asked   int
	refused int
	next    string // password that it has once one was refused; "" for none
}

func (g *given) Credential(context.Context, registry.Place) (registry.Credential, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	return g.has, g.fails
}

func (g *given) Refused(registry.Place, registry.Credential) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused++
	if g.next != "" {
		g.has.Password = g.next
	}
	return g.next != ""
}

func (g *given) String() string { return g.name }

func (g *given) give(password string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.has = registry.Credential{Username: "me", Password: password}
}

// demanding lets in who has the password, and tells others with a status.
type demanding struct {
	mu       sync.Mutex
	password string
	status   int
	seen     []string // passwords
}

func (d *demanding) set(password string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.password = password
}

func (d *demanding) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, sent := r.BasicAuth()
		d.mu.Lock()
		d.seen = append(d.seen, password)
		ok, status := password == d.password, d.status
		d.mu.Unlock()
		if ok {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Www-Authenticate", `Basic realm="x"`)
		if !sent {
			status = http.StatusUnauthorized
		}
		http.Error(w, "no", status)
	})
}

func TestSourcesOfCredentialsAreAskedInOrderUntilOneIsLetIn(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			server := &demanding{password: "right", status: status}
			srv := httptest.NewServer(server.wrap(handler()))
			t.Cleanup(srv.Close)
			dockerConfig(t)(`{"auths":{%q:{"auth":%q}}}`, strings.TrimPrefix(srv.URL, "http://"), authOf("me", "stale"))
			broken, nothing, first, second := &given{fails: errors.New("out of order")}, &given{}, &given{}, &given{}
			first.give("expired")
			second.give("right")
			repo := open(t, srv, registry.Options{Logins: []registry.Logins{broken, nothing, first, second}})
			if err := roundTrip(repo); err != nil {
				t.Fatal(err)
			}
			if first.refused == 0 || second.refused > 0 || second.asked == 0 {
				t.Errorf("sources: %+v, %+v", first, second)
			}
			// Who was let in is asked first from now on.
			asked, before := first.asked, len(server.seen)
			desc := content.NewDescriptorFromBytes("application/octet-stream", pattern())
			if err := readPart(repo, desc, pattern()); err != nil {
				t.Fatal(err)
			}
			if first.asked != asked || len(server.seen) != before+1 {
				t.Errorf("asked %d times more, for requests with %q", first.asked-asked, server.seen[before:])
			}
			// What was good expires, another source has something new.
			server.set("new")
			if err := readPart(repo, desc, pattern()); err == nil {
				t.Error("nobody has the password, and yet we are let in")
			}
			first.give("new")
			if err := readPart(repo, desc, pattern()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASourceWithAnotherCredentialIsAskedOnceMore(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for next, refusals := range map[string]int{"right": 1, "wrong too": 2} {
			server := &demanding{password: "right", status: status}
			srv := httptest.NewServer(server.wrap(handler()))
			t.Cleanup(srv.Close)
			dockerConfig(t)(`{}`)
			first, last := &given{next: next}, &given{}
			first.give("expired")
			repo := open(t, srv, registry.Options{Logins: []registry.Logins{first, last}})
			desc := content.NewDescriptorFromBytes("application/octet-stream", pattern())
			if err := repo.Push(t.Context(), desc, bytes.NewReader(pattern())); (err == nil) != (next == "right") || first.refused != refusals {
				t.Errorf("%d, %s: refused %d times, %v", status, next, first.refused, err)
			}
		}
	}
}

func TestPublicRegistriesAreAskedWithoutCredentials(t *testing.T) {
	srv := httptest.NewServer(handler())
	t.Cleanup(srv.Close)
	source := &given{}
	source.give("x")
	if err := roundTrip(open(t, srv, registry.Options{Logins: []registry.Logins{source}})); err != nil || source.asked > 0 {
		t.Errorf("asked %d times, %v", source.asked, err)
	}
}

// TestWhatAPullBroughtIsForItsRepositoryOnly has another repository at the same registry, with the same password.
func TestWhatAPullBroughtIsForItsRepositoryOnly(t *testing.T) {
	server := &demanding{password: "right", status: http.StatusUnauthorized}
	srv := httptest.NewServer(server.wrap(handler()))
	t.Cleanup(srv.Close)
	dockerConfig(t)(`{}`)
	addr := strings.TrimPrefix(srv.URL, "http://")
	pulled := new(registry.Pulled)
	client, err := registry.NewClient(registry.Options{Logins: []registry.Logins{pulled}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	login := registry.Credential{Username: "me", Password: "right"}
	pulled.Remember(parse(t, addr+"/team/app:1"), "", login)(true)
	pulled.Remember(parse(t, addr+"/team/third:1"), "https://elsewhere.example.com", login)(true)
	for _, name := range []string{"team/app", "team/other", "team/app/sub", "team/third"} {
		want := name == "team/app"
		repo, err := client.Repository(parse(t, addr+"/"+name))
		if err != nil {
			t.Fatal(err)
		}
		if err := roundTrip(repo); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatAFailedPullBroughtIsForgotten(t *testing.T) {
	pulled := new(registry.Pulled)
	image, at := parse(t, "registry.example.com/app:1"), registry.Place{Registry: "registry.example.com", Repository: "app", Host: "registry.example.com"}
	has := func() string {
		c, err := pulled.Credential(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return c.Password
	}
	good := registry.Credential{Username: "me", Password: "good"}
	pulled.Remember(image, "", good)(true)
	pulled.Remember(image, "", registry.Credential{Username: "me", Password: "bad"})(false)
	if has() != "good" {
		t.Errorf("there is %q", has())
	}
	first := pulled.Remember(image, "https://registry.example.com/v2/", registry.Credential{Username: "me", Password: "bad"})
	second := pulled.Remember(image, "", registry.Credential{Username: "me", Password: "worse"})
	first(false)
	if second(false); has() != "good" {
		t.Errorf("after two pulls at once there is %q", has())
	}
	first = pulled.Remember(image, "", registry.Credential{Username: "me", Password: "bad"})
	pulled.Remember(image, "registry.example.com", registry.Credential{Username: "me", Password: "better"})(true)
	if first(false); has() != "better" {
		t.Errorf("there is %q", has())
	}
	at.Host = "mirror.example.com"
	if has() != "" {
		t.Error("a mirror gets what is for the registry")
	}
}

// TestServersOfPullsAreNamedInManyWays has credentials for the registry of an image, or for another one, as clients write it.
func TestServersOfPullsAreNamedInManyWays(t *testing.T) {
	for _, c := range []struct {
		image, server, host string // the last is where they are asked for
		want                bool
	}{
		{"alpine", "https://index.docker.io/v1/", "registry-1.docker.io", true},
		{"index.docker.io/library/alpine", "registry-1.docker.io", "registry-1.docker.io", true},
		{"docker.io/library/alpine", "docker.io", "mirror.example.com", false},
		{"alpine", "registry.example.com", "registry-1.docker.io", false},
		{"registry.example.com:5000/a", "registry.example.com:5000", "registry.example.com:5000", true},
		{"registry.example.com:5000/a", "https://registry.example.com:5000/v2/", "registry.example.com:5000", true},
		{"registry.example.com:5000/a", "registry.example.com", "registry.example.com:5000", false},
		{"registry.example.com/a", "registry.example.com:5000", "registry.example.com", false},
		{"registry.example.com/a", "https://registry.example.com.evil.example/", "registry.example.com", false},
		{"registry.example.com/a", "", "registry.example.com:5000", false},
		{"[::1]:5000/a", "http://[::1]:5000", "[::1]:5000", true},
	} {
		pulled, image := new(registry.Pulled), parse(t, c.image)
		pulled.Remember(image, c.server, registry.Credential{Username: "me", Password: "secret"})(true)
		got, err := pulled.Credential(t.Context(), registry.Place{Registry: image.Host, Repository: image.Repository, Host: c.host})
		if err != nil || (got.Password != "") != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

// TestAPullWithAWrongPasswordTakesNothingFromReaders has somebody pull with one while others read.
func TestAPullWithAWrongPasswordTakesNothingFromReaders(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		server := &demanding{password: "good", status: status}
		srv := httptest.NewServer(server.wrap(handler()))
		t.Cleanup(srv.Close)
		dockerConfig(t)(`{}`)
		pulled := new(registry.Pulled)
		repo := open(t, srv, registry.Options{Logins: []registry.Logins{pulled}})
		image := parse(t, repo.String()+":1")
		pulled.Remember(image, "", registry.Credential{Username: "me", Password: "good"})(true)
		ended := pulled.Remember(image, "", registry.Credential{Username: "me", Password: "bad"})
		if err := roundTrip(repo); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		ended(false)
	}
}

func TestWhatPullsBroughtIsBounded(t *testing.T) {
	pulled := new(registry.Pulled)
	for i := range 5000 {
		pulled.Remember(parse(t, fmt.Sprintf("registry.example.com/app%d:1", i)), "", registry.Credential{Username: "me"})(true)
	}
	for name, want := range map[string]bool{"app0": false, "app4999": true} {
		c, err := pulled.Credential(t.Context(), registry.Place{Registry: "registry.example.com", Repository: name, Host: "registry.example.com"})
		if err != nil || (c.Username != "") != want {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

func TestWhatPullsBroughtOutlivesAProcess(t *testing.T) {
	image, at := parse(t, "registry.example.com/app:1"), registry.Place{Registry: "registry.example.com", Repository: "app", Host: "registry.example.com"}
	good := registry.Credential{Username: "me", Password: "good", RefreshToken: "r", AccessToken: "a"}
	pulled, times := new(registry.Pulled), 0
	var state []byte
	pulled.Keep(func(b []byte) { state, times = b, times+1 })
	pulled.Remember(image, "", good)(true)
	pulled.Remember(image, "", good)(true) // as every pull does
	if times != 1 {
		t.Errorf("it was kept %d times", times)
	}
	pulled.Remember(image, "", registry.Credential{Username: "bad"}) // killed while it pulls
	successor := new(registry.Pulled)
	if err := successor.Recall(state); err != nil {
		t.Fatal(err)
	}
	if c, err := successor.Credential(t.Context(), at); err != nil || c != good {
		t.Errorf("%+v, %v", c, err)
	}
	if err := successor.Recall([]byte("[{hush")); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("error is %v", err)
	}
}
