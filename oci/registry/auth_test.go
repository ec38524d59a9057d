package registry_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci/registry"
	"oras.land/oras-go/v2/content"
)

// dockerConfig has credentials be looked for in a directory of the test's own and returns how to write that.
func dockerConfig(t *testing.T) func(format string, args ...any) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	return func(format string, args ...any) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func authOf(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func TestExpiredTokensAreRenewedAndRotatedPasswordsFound(t *testing.T) {
	write := dockerConfig(t)
	tokens := servertest.NewTokenServer(t, "first")
	addr := servertest.Distribution(t, tokens).Addr
	write(`{"auths":{%q:{"auth":%q}}}`, addr, authOf("me", "first"))
	if err := roundTrip(openAt(t, addr, registry.Options{})); err != nil {
		t.Fatal(err)
	}
	// Together with the minute that registries allow for, tokens live for a second, or two as they know no fractions.
	tokens.Set("first", -58*time.Second)
	const expired = 3500 * time.Millisecond
	repo := openAt(t, addr, registry.Options{})
	desc := content.NewDescriptorFromBytes("application/octet-stream", pattern())
	if err := readPart(repo, desc, pattern()); err != nil {
		t.Fatal(err)
	}
	before := tokens.Asked()
	time.Sleep(expired)
	if err := readPart(repo, desc, pattern()); err != nil {
		t.Errorf("after the token expired: %v", err)
	}
	if tokens.Asked() == before {
		t.Error("no new token was asked for: the old one had not expired")
	}
	tokens.Set("second", time.Minute)
	time.Sleep(expired)
	if err := readPart(repo, desc, pattern()); err == nil || !strings.Contains(err.Error(), "wrong password") {
		t.Errorf("after the password changed: %v", err)
	}
	write(`{"auths":{%q:{"auth":%q}}}`, addr, authOf("me", "second"))
	if err := readPart(repo, desc, pattern()); err != nil {
		t.Errorf("after a new login: %v", err)
	}
}

// helper installs the credential helper docker-credential-test.
func helper(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestCredentialsComeFromHelpers(t *testing.T) {
	srv := httptest.NewServer(basicAuth(handler()))
	t.Cleanup(srv.Close)
	helper(t, `read host; test "$1" = get && echo "{\"ServerURL\":\"$host\",\"Username\":\"me\",\"Secret\":\"secret\"}"`)
	write := dockerConfig(t)
	for name, config := range map[string]string{
		"for the host": `{"credHelpers":{"` + strings.TrimPrefix(srv.URL, "http://") + `":"test"}}`,
		"for all":      `{"credsStore":"test"}`,
	} {
		write("%s", config)
		if err := roundTrip(open(t, srv, registry.Options{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFailingHelpersAreReportedWithoutSecrets(t *testing.T) {
	srv := httptest.NewServer(basicAuth(handler()))
	t.Cleanup(srv.Close)
	write := dockerConfig(t)
	write(`{"credsStore":"test"}`)
	for name, c := range map[string]struct{ script, says string }{
		"error":     {"echo the vault is sealed; exit 3", "the vault is sealed"},
		"no answer": {"echo secret", "its answer is no JSON"},
		"too much":  {"head -c 3000000 /dev/zero; exit 0", "docker-credential-test"},
		"not found": {"echo credentials not found in native keychain; exit 1", "log in"},
	} {
		helper(t, c.script)
		err := roundTrip(open(t, srv, registry.Options{}))
		if err == nil || !strings.Contains(err.Error(), c.says) || registry.IsPermanent(err) && name != "not found" {
			t.Errorf("%s: error is %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHelperThatHangsIsEnded(t *testing.T) {
	for name, script := range map[string]string{
		"itself":       "exec sleep 60",
		"in a child":   "sleep 60",
		"in an orphan": "sleep 60 & exit 0",
	} {
		helper(t, script)
		start := time.Now()
		_, err := registry.AskHelper(context.Background(), "test", "example.com", 200*time.Millisecond)
		if took := time.Since(start); err == nil || took > 30*time.Second {
			t.Errorf("%s: took %v, error is %v", name, took, err)
		}
	}
	if _, err := registry.AskHelper(context.Background(), "../evil", "example.com", time.Second); err == nil {
		t.Error("a helper outside of PATH is run")
	}
}

func TestCredentialsGoToNoOtherHost(t *testing.T) {
	var leaked string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked += r.Header.Get("Authorization")
		w.Header().Set("Www-Authenticate", `Basic realm="give me more"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(elsewhere.Close)
	srv := httptest.NewServer(basicAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})))
	t.Cleanup(srv.Close)
	dockerConfig(t)(`{"auths":{%q:{"auth":%q},%q:{"auth":%q}}}`, strings.TrimPrefix(srv.URL, "http://"), authOf("me", "secret"),
		strings.TrimPrefix(elsewhere.URL, "http://"), authOf("me", "other"))
	repo := open(t, srv, registry.Options{})
	desc := content.NewDescriptorFromBytes("application/octet-stream", pattern())
	if err := readPart(repo, desc, pattern()); err == nil {
		t.Error("the other host let us in")
	}
	if _, err := repo.Fetch(context.Background(), desc); err == nil {
		t.Error("the other host let us in")
	}
	if leaked != "" {
		t.Errorf("the other host was sent %q", leaked)
	}
}

// TestTokenServersMayHaveAnotherNameInAPrivateNetwork has a registry and a token server with different names, both at addresses that are not public.
func TestTokenServersMayHaveAnotherNameInAPrivateNetwork(t *testing.T) {
	tokens := servertest.NewTokenServer(t, "secret")
	_, port, _ := strings.Cut(servertest.Distribution(t, tokens).Addr, ":")
	addr := "localhost:" + port
	dockerConfig(t)(`{"auths":{%q:{"auth":%q}}}`, addr, authOf("me", "secret"))
	if err := roundTrip(openAt(t, addr, registry.Options{})); err != nil {
		t.Error(err)
	}
	if tokens.Asked() == 0 {
		t.Error("no token was asked for")
	}
	dockerConfig(t)(`{"auths":{%q:{"auth":%q}}}`, addr, authOf("me", "wrong"))
	if err := roundTrip(openAt(t, addr, registry.Options{})); err == nil || !strings.Contains(err.Error(), "wrong password") || strings.Contains(err.Error(), "pagein-realm") {
		t.Errorf("error is %v", err)
	}
}

func TestTokenServersWithoutTLSGetNoCredentialsOfARegistryWithTLS(t *testing.T) {
	var leaked string
	tokens := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked += r.Header.Get("Authorization") }))
	t.Cleanup(tokens.Close)
	for _, realm := range []string{tokens.URL + "/token", "https://HOST/.pagein-realm/" + base64.RawURLEncoding.EncodeToString([]byte(tokens.URL+"/token"))} {
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="x"`, strings.ReplaceAll(realm, "HOST", r.Host)))
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(srv.Close)
		addr := strings.TrimPrefix(srv.URL, "https://")
		dockerConfig(t)(`{"auths":{%q:{"auth":%q}}}`, addr, authOf("me", "secret"))
		repo := openAt(t, addr, registry.Options{Insecure: true})
		repo.PlainHTTP = false
		if err := readPart(repo, patternDesc, pattern()); err == nil || leaked != "" {
			t.Errorf("%s: leaked %q, %v", realm, leaked, err)
		}
	}
}

// TestATokenServerThatDoesNotAnswerIsGivenUp has passwords, for which tokens are asked by GET, and identity tokens, for which they are by POST.
func TestATokenServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	asked := make(chan string, 100)
	hang := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not see who goes away
		asked <- r.Method
		<-r.Context().Done()
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(hang))
	t.Cleanup(elsewhere.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for method, login := range map[string]string{http.MethodGet: fmt.Sprintf(`"auth":%q`, authOf("me", "secret")), http.MethodPost: `"identitytoken":"secret"`} {
		for place, realm := range map[string]string{"at the registry": "http://HOST/token", "elsewhere": elsewhere.URL + "/token"} {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token" {
					hang(w, r)
					return
				}
				w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="x"`, strings.ReplaceAll(realm, "HOST", r.Host)))
				w.WriteHeader(http.StatusUnauthorized)
			}))
			t.Cleanup(srv.Close)
			dockerConfig(t)(`{"auths":{%q:{%s}}}`, strings.TrimPrefix(srv.URL, "http://"), login)
			if _, err := open(t, srv, registry.Options{Stall: 100 * time.Millisecond}).Resolve(ctx, "latest"); !errors.Is(err, registry.ErrStalled) {
				t.Errorf("%s %s: %v", method, place, err)
			}
			if got := <-asked; got != method {
				t.Errorf("%s %s: it was asked by %s", method, place, got)
			}
			for len(asked) > 0 {
				<-asked // again, after a pause
			}
		}
	}
}
