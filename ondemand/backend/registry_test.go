package backend_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/backend/backendtest"
)

// patient is a stall time that no busy machine exceeds.
const patient = time.Minute

// repository returns the repository "app" of a server.
func repository(t *testing.T, url string, stall time.Duration) *registry.Repository {
	t.Helper()
	client, err := registry.NewClient(registry.Options{Anonymous: true, Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	ref, err := oci.ParseRef(strings.TrimPrefix(url, "http://") + "/app")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := client.Repository(ref)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func describe(content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(content), Size: int64(len(content))}
}

func TestRegistryConforms(t *testing.T) {
	for name, server := range map[string]func(t *testing.T) string{
		"distribution": func(t *testing.T) string { return "http://" + servertest.Distribution(t, nil).Addr },
		"ggcr": func(t *testing.T) string {
			srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
			t.Cleanup(srv.Close)
			return srv.URL
		},
	} {
		t.Run(name, func(t *testing.T) {
			repo := repository(t, server(t), patient)
			backendtest.Run(t, backendtest.Suite{
				Open: func(t *testing.T, content []byte) backend.Object {
					if err := repo.Push(context.Background(), describe(content), bytes.NewReader(content)); err != nil {
						t.Fatal(err)
					}
					return backend.Registry(repo, describe(content))
				},
				Missing: func(*testing.T) backend.Object { return backend.Registry(repo, describe(make([]byte, 1000))) },
			})
		})
	}
}

// content is what misbehaving servers have.
var content = bytes.Repeat([]byte("0123456789"), 10_000)

// good serves content as it should be.
func good(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func TestMisbehavingServerNeverYieldsWrongBytes(t *testing.T) {
	const off, n = 1000, 5000
	header := func(k, v string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.Header().Set(k, v)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[off : off+n])
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		serve     http.HandlerFunc
		permanent bool
		want      error
		says      string
	}{
		"ignores Range": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			good(w, r)
		}, true, registry.ErrNoRange, "ignores Range"},
		"other first byte": {header("Content-Range", "bytes 0-4999/100000"), false, registry.ErrBadAnswer, "Content-Range"},
		"other last byte":  {header("Content-Range", "bytes 1000-6000/100000"), false, registry.ErrBadAnswer, "Content-Range"},
		"other size":       {header("Content-Range", "bytes 1000-5999/100001"), false, registry.ErrBadAnswer, "Content-Range"},
		"no Content-Range": {header("Content-Range", ""), false, registry.ErrBadAnswer, "Content-Range"},
		"other unit":       {header("Content-Range", "blocks 1000-5999/100000"), false, registry.ErrBadAnswer, "Content-Range"},
		"encoded":          {header("Content-Encoding", "gzip"), false, registry.ErrBadAnswer, "encoded with gzip"},
		"longer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.Header().Set("Content-Length", "5001")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[off : off+n+1])
		}, false, registry.ErrBadAnswer, "Content-Length is 5001"},
		"truncates": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.Header().Set("Content-Length", "5000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[off : off+n/2])
			hijack(w)
		}, false, io.ErrUnexpectedEOF, ""},
		"truncates chunked": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[off : off+n/2])
			_ = http.NewResponseController(w).Flush()
		}, false, io.ErrUnexpectedEOF, "2500 bytes are missing"},
		"hangs up": {func(w http.ResponseWriter, _ *http.Request) { hijack(w) }, false, io.ErrUnexpectedEOF, "closed the connection"},
		"hangs": {func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		}, false, registry.ErrStalled, "for 1s"},
		"stalls in the body": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.Header().Set("Content-Length", "5000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[off : off+n/2])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		}, false, registry.ErrStalled, "for 1s"},
		"a byte now and then": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
			for i := off; i < off+n && r.Context().Err() == nil; i++ {
				_, _ = w.Write(content[i : i+1])
				_ = http.NewResponseController(w).Flush()
				time.Sleep(30 * time.Millisecond)
			}
		}, false, registry.ErrStalled, "for 1s"},
		"announces less": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.Header().Set("Content-Length", "4999")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[off : off+n-1])
		}, false, registry.ErrBadAnswer, "Content-Length is 4999"},
		"whole object as a part": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, len(content)))
			w.Header().Set("Content-Length", "100000")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content)
		}, false, registry.ErrBadAnswer, "Content-Length is 100000"},
		"200 for a part": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content[off : off+n]) }, true, registry.ErrNoRange, "ignores Range"},
		"several parts": {func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=0-9,20-29")
			good(w, r)
		}, false, registry.ErrBadAnswer, "Content-Range"},
		"redirect to nowhere": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, false, registry.ErrBadAnswer, "Location"},
		"resets": {func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		}, false, syscall.ECONNRESET, ""},
		"unfinished headers": {func(w http.ResponseWriter, _ *http.Request) {
			if c, rw, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = rw.WriteString("HTTP/1.1 206 Partial Content\r\nContent-Ra")
				_ = rw.Flush()
				_ = c.Close()
			}
		}, false, nil, "malformed"},
		"no HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			if c, rw, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = rw.WriteString("220 smtp ready\r\n")
				_ = rw.Flush()
				_ = c.Close()
			}
		}, false, nil, "malformed HTTP"},
		"400": {status(400), true, nil, "400 Bad Request"},
		"401": {status(401), true, nil, "log in"},
		"403": {status(403), true, nil, "log in"},
		"404": {status(404), true, nil, "does not exist"},
		"410": {status(410), true, nil, "no more"},
		"416": {status(416), true, nil, "416"},
		"408": {status(408), false, nil, "408"},
		"429": {status(429), false, nil, "too many requests"},
		"500": {status(500), false, nil, "in trouble"},
		"503": {status(503), false, nil, "in trouble"},
		"redirects for ever": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, false, nil, "redirects"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.serve)
			t.Cleanup(srv.Close)
			o := backend.Registry(repository(t, srv.URL, time.Second), describe(content))
			_, err := backendtest.Read(context.Background(), o, off, n)
			if err == nil {
				t.Fatal("no error")
			}
			if backend.IsPermanent(err) != c.permanent {
				t.Errorf("permanent is %v: %v", !c.permanent, err)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), o.String()) {
				t.Errorf("error %q does not say %q and %q", err, c.says, o)
			}
		})
	}
}

func TestWhenToComeBackIsTold(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for header, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "86400": time.Minute} {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", header)
				w.WriteHeader(code)
			}))
			_, err := backendtest.Read(context.Background(), backend.Registry(repository(t, srv.URL, patient), describe(content)), 0, 10)
			if got := backend.RetryAfter(err); got != want || backend.IsPermanent(err) {
				t.Errorf("%d with Retry-After %q: %v, %v", code, header, got, err)
			}
			srv.Close()
		}
	}
}

func TestExpiredCertificatesAreRefusedForGood(t *testing.T) {
	cert, key := servertest.Certificate(t, time.Now().Add(-time.Minute))
	dir := t.TempDir()
	writeObject(t, dir+"/object", content)
	url := "https://" + servertest.NginxTLS(t, dir, cert, key, "").Addr
	o := openURL(t, storage(t, backend.Place{URL: url, CA: cert}), url+"/object", len(content))
	if _, err := backendtest.Read(context.Background(), o, 0, 10); err == nil || !backend.IsPermanent(err) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("error is %v", err)
	}
	cert, key = servertest.Certificate(t, time.Now().Add(time.Minute))
	url = "https://" + servertest.NginxTLS(t, dir, cert, key, "").Addr
	o = openURL(t, storage(t, backend.Place{URL: url, CA: cert}), url+"/object", len(content))
	if _, err := backendtest.Read(context.Background(), o, 0, 10); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// hijack cuts the connection.
func hijack(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func TestServerWithoutRangesStillGivesTheWholeObject(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		good(w, r)
	}))
	t.Cleanup(srv.Close)
	o := backend.Registry(repository(t, srv.URL, patient), describe(content))
	got, err := backendtest.Read(context.Background(), o, 0, o.Size())
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestWholeObjectInPlaceOfItsBeginningIsRefusedForGood(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		good(w, r)
	}))
	t.Cleanup(srv.Close)
	o := backend.Registry(repository(t, srv.URL, patient), describe(content))
	if _, err := backendtest.Read(context.Background(), o, 0, 4096); !errors.Is(err, registry.ErrNoRange) || !backend.IsPermanent(err) {
		t.Errorf("error is %v, want a permanent %v", err, registry.ErrNoRange)
	}
}

func TestSlowConsumerIsNoStall(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(good))
	t.Cleanup(srv.Close)
	o := backend.Registry(repository(t, srv.URL, 300*time.Millisecond), describe(content))
	r, err := o.Range(context.Background(), 0, o.Size())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	time.Sleep(400 * time.Millisecond)
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(400 * time.Millisecond)
	if got, err := io.ReadAll(r); err != nil || len(got) != len(content)-10 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestRedirectKeepsTheRangeAndLosesTheCredentials(t *testing.T) {
	var leaked string
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked += r.Header.Get("Authorization")
		good(w, r)
	}))
	t.Cleanup(storage.Close)
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/token":
			_, _ = io.WriteString(w, `{"token":"secret"}`)
		default:
			asked++
			if r.Header.Get("Authorization") != "Bearer secret" {
				w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="x",scope="repository:app:pull"`, r.Host))
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			http.Redirect(w, r, storage.URL+"/blob", http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(srv.Close)
	o := backend.Registry(repository(t, srv.URL, patient), describe(content))
	for range 3 {
		got, err := backendtest.Read(context.Background(), o, 1000, 5000)
		if err != nil || !bytes.Equal(got, content[1000:6000]) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if leaked != "" {
		t.Errorf("the storage server was sent %q", leaked)
	}
	if asked != 2 { // once for the challenge, once for the redirect
		t.Errorf("the registry was asked %d times for 3 ranges: the redirect is not remembered", asked)
	}
}

func TestConnectionIsUsedAgain(t *testing.T) {
	connections := make(map[string]bool)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections[r.RemoteAddr] = true
		if r.Header.Get("Range") == "bytes=0-9" {
			http.Error(w, "gone", http.StatusNotFound)
			return
		}
		good(w, r)
	}))
	t.Cleanup(srv.Close)
	o := backend.Registry(repository(t, srv.URL, patient), describe(content))
	for i := range 10 {
		if _, err := backendtest.Read(context.Background(), o, int64(i+1), 40_000); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Range(context.Background(), 0, 10); err == nil {
			t.Fatal("no error")
		}
		r, err := o.Range(context.Background(), 0, 20_000)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(connections) != 1 {
		t.Errorf("%d connections for 30 requests, want 1", len(connections))
	}
}

func TestNameThatNobodyKnowsMayBecomeKnown(t *testing.T) {
	o := backend.Registry(repository(t, "http://no-such-host.invalid:5000", patient), describe(content))
	_, err := backendtest.Read(context.Background(), o, 0, 100)
	if err == nil || backend.IsPermanent(err) || !strings.Contains(err.Error(), "no-such-host.invalid") {
		t.Errorf("error is %v, want one that names the host and is not permanent", err)
	}
}

func TestUnreachableRegistryMayComeBack(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	url := srv.URL
	srv.Close()
	o := backend.Registry(repository(t, url, patient), describe(content))
	if _, err := backendtest.Read(context.Background(), o, 0, 100); err == nil || backend.IsPermanent(err) {
		t.Errorf("error is %v, want one that is not permanent", err)
	}
}
