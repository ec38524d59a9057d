package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/oci/registry/registrytest"
	"oras.land/oras-go/v2/content"
)

// open returns a repository of a test server.
func open(t *testing.T, srv *httptest.Server, o registry.Options) *registry.Repository {
	t.Helper()
	_, addr, _ := strings.Cut(srv.URL, "://")
	return openAt(t, addr, o)
}

func openAt(t *testing.T, addr string, o registry.Options) *registry.Repository {
	t.Helper()
	client, err := registry.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	repo, err := client.Repository(parse(t, addr+"/team/app"))
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func parse(t *testing.T, s string) oci.Ref {
	t.Helper()
	ref, err := oci.ParseRef(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func handler() http.Handler { return ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))) }

// pattern is what blobs consist of.
func pattern() []byte { return bytes.Repeat([]byte("0123456789"), 1000) }

// roundTrip pushes a blob and reads a part of it.
func roundTrip(repo *registry.Repository) error {
	ctx, b := context.Background(), pattern()
	desc := content.NewDescriptorFromBytes("application/octet-stream", b)
	if err := repo.Push(ctx, desc, bytes.NewReader(b)); err != nil {
		return registry.Explain(err)
	}
	return readPart(repo, desc, b)
}

func readPart(repo *registry.Repository, desc ocispec.Descriptor, b []byte) error {
	r, err := repo.Range(context.Background(), desc, 5, 100)
	if err != nil {
		return err
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b[5:105]) {
		return errors.Join(errors.New("wrong bytes"), err)
	}
	return nil
}

// basicAuth asks for a password.
func basicAuth(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "me" || pass != "secret" {
			w.Header().Set("Www-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func TestCredentialsComeFromDockersConfiguration(t *testing.T) {
	srv := httptest.NewServer(basicAuth(handler()))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	config := `{"auths":{"` + strings.TrimPrefix(srv.URL, "http://") + `":{"auth":"bWU6c2VjcmV0"}}}`
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(path, []byte(config), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(open(t, srv, registry.Options{})); err != nil {
		t.Error(err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != config {
		t.Errorf("the configuration was changed to %q, %v", now, err)
	}
}

func TestMissingCredentialsSayHowToLogIn(t *testing.T) {
	srv := httptest.NewServer(basicAuth(handler()))
	t.Cleanup(srv.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	repo := open(t, srv, registry.Options{})
	if err := roundTrip(repo); err == nil || !strings.Contains(err.Error(), "log in") {
		t.Errorf("error is %v", err)
	}
	desc := content.NewDescriptorFromBytes("application/octet-stream", []byte("x"))
	if _, err := repo.Range(context.Background(), desc, 0, 1); err == nil || !strings.Contains(err.Error(), "log in") {
		t.Errorf("error is %v", err)
	}
}

func TestBrokenDockerConfigurationHarmsOnlyWhoNeedsIt(t *testing.T) {
	open1, private := httptest.NewServer(handler()), httptest.NewServer(basicAuth(handler()))
	t.Cleanup(open1.Close)
	t.Cleanup(private.Close)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	whole := `{"auths":{"` + strings.TrimPrefix(private.URL, "http://") + `":{"auth":"bWU6c2VjcmV0"}}}`
	write := func(s string) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(whole[:len(whole)-3])
	if err := roundTrip(open(t, open1, registry.Options{})); err != nil {
		t.Errorf("a registry that asks for nothing: %v", err)
	}
	repo := open(t, private, registry.Options{})
	if err := roundTrip(repo); err == nil || !strings.Contains(err.Error(), "Docker's configuration "+dir) || registry.IsPermanent(err) {
		t.Errorf("error is %v, want one about the configuration that may go away", err)
	}
	write(whole)
	if err := roundTrip(repo); err != nil {
		t.Errorf("after the file was mended: %v", err)
	}
}

func TestSelfSignedRegistryNeedsInsecure(t *testing.T) {
	srv := httptest.NewUnstartedServer(handler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	// Under another name than a loopback address, so that HTTPS is the default.
	secure := func(o registry.Options) *registry.Repository {
		repo := open(t, srv, o)
		repo.PlainHTTP = false
		return repo
	}
	desc := content.NewDescriptorFromBytes("application/octet-stream", []byte("x"))
	_, err := secure(registry.Options{Anonymous: true}).Range(context.Background(), desc, 0, 1)
	if err == nil || !registry.IsPermanent(err) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error is %v, want a permanent one about the certificate", err)
	}
	if err := roundTrip(secure(registry.Options{Anonymous: true, Insecure: true})); err != nil {
		t.Error(err)
	}
}

func TestPlainRegistryBehindHTTPSNameIsTold(t *testing.T) {
	srv := httptest.NewServer(handler())
	t.Cleanup(srv.Close)
	repo := open(t, srv, registry.Options{Anonymous: true})
	repo.PlainHTTP = false
	desc := content.NewDescriptorFromBytes("application/octet-stream", []byte("x"))
	_, err := repo.Range(context.Background(), desc, 0, 1)
	if err == nil || !registry.IsPermanent(err) || !errors.Is(err, registry.ErrPlainHTTP) {
		t.Errorf("error is %v", err)
	}
}

func TestPlainHTTPIsForLoopbackOrOnRequest(t *testing.T) {
	for _, c := range []struct {
		ref   string
		plain bool // asked for
		want  bool
	}{{"localhost:5000/a", false, true}, {"example.com/a", false, false}, {"example.com/a", true, true}, {"localhost:443/a", false, false}} {
		client, err := registry.NewClient(registry.Options{Anonymous: true, PlainHTTP: c.plain})
		if err != nil {
			t.Fatal(err)
		}
		repo, err := client.Repository(parse(t, c.ref))
		if err != nil {
			t.Fatal(err)
		}
		if repo.PlainHTTP != c.want {
			t.Errorf("%s with plain HTTP asked %v: plain is %v", c.ref, c.plain, repo.PlainHTTP)
		}
	}
}

func TestRedirectNeverLeavesTLS(t *testing.T) {
	plain := httptest.NewServer(handler())
	t.Cleanup(plain.Close)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(srv.Close)
	repo := open(t, srv, registry.Options{Anonymous: true, Insecure: true})
	repo.PlainHTTP = false
	desc := content.NewDescriptorFromBytes("application/octet-stream", []byte("x"))
	if _, err := repo.Range(context.Background(), desc, 0, 1); err == nil || !strings.Contains(err.Error(), "not followed") {
		t.Errorf("error is %v", err)
	}
}

func TestOnlyRegistriesHaveRepositories(t *testing.T) {
	client := registrytest.Client(t)
	if _, err := client.Repository(oci.Ref{Kind: oci.Layout, Path: "x"}); err == nil {
		t.Error("a layout is accepted")
	}
}

func TestExplainKeepsWhatTheRegistrySays(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"quota\nexceeded"}]}`)
	}))
	t.Cleanup(srv.Close)
	err := roundTrip(open(t, srv, registry.Options{Anonymous: true}))
	var status *registry.StatusError
	if !errors.As(err, &status) || status.Code != http.StatusForbidden || !strings.Contains(err.Error(), "quota exceeded") {
		t.Errorf("error is %v", err)
	}
	if registry.Explain(nil) != nil {
		t.Error("no error is explained as one")
	}
}

func TestFetchThatStallsEnds(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "some bytes, and then no more")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	}))
	t.Cleanup(srv.Close)
	repo := open(t, srv, registry.Options{Anonymous: true, Stall: 200 * time.Millisecond})
	desc := ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString("x"), Size: 1000}
	r, err := repo.Fetch(context.Background(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, registry.ErrStalled) || registry.IsPermanent(err) {
		t.Errorf("error is %v, want one that says it stalled and is not permanent", err)
	}
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
