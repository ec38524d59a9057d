package backend_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/servertest"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/backend/backendtest"
)

// storage returns storage in which the given places are configured.
func storage(t *testing.T, places ...backend.Place) *backend.Storage {
	t.Helper()
	s, err := backend.NewStorage(backend.StorageOptions{Places: places, Stall: patient})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func openURL(t *testing.T, s *backend.Storage, url string, size int) backend.Object {
	t.Helper()
	o, err := s.Open(url, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func writeObject(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestHTTPConforms(t *testing.T) {
	dir := t.TempDir()
	url := "http://" + servertest.Nginx(t, dir, "").Addr
	s := storage(t, backend.Place{URL: url})
	backendtest.Run(t, backendtest.Suite{
		Open: func(t *testing.T, content []byte) backend.Object {
			writeObject(t, filepath.Join(dir, "object"), content)
			return openURL(t, s, url+"/object", len(content))
		},
		Missing: func(t *testing.T) backend.Object { return openURL(t, s, url+"/missing", 1000) },
	})
}

func TestDirectoryConforms(t *testing.T) {
	dir := t.TempDir()
	s := storage(t, backend.Place{URL: "file://" + dir})
	backendtest.Run(t, backendtest.Suite{
		Open: func(t *testing.T, content []byte) backend.Object {
			writeObject(t, filepath.Join(dir, "object"), content)
			return openURL(t, s, "file://"+dir+"/object", len(content))
		},
		Missing: func(t *testing.T) backend.Object { return openURL(t, s, "file://"+dir+"/missing", 1000) },
	})
}

func TestFirstConforms(t *testing.T) {
	dir := t.TempDir()
	s := storage(t, backend.Place{URL: "file://" + dir})
	first := func(t *testing.T, names ...string) backend.Object {
		var all []backend.Object
		for _, name := range names {
			all = append(all, openURL(t, s, "file://"+dir+"/"+name, 3<<20+123))
		}
		return backend.First(quiet(), all...)
	}
	backendtest.Run(t, backendtest.Suite{
		Open: func(t *testing.T, content []byte) backend.Object {
			writeObject(t, filepath.Join(dir, "a"), content)
			writeObject(t, filepath.Join(dir, "c"), content)
			return first(t, "a", "missing", "c")
		},
		Missing: func(t *testing.T) backend.Object { return first(t, "missing", "gone") },
	})
}

func TestWhatIsNotConfiguredIsNotRead(t *testing.T) {
	dir := t.TempDir()
	s := storage(t, backend.Place{URL: "file://" + dir}, backend.Place{URL: "http://files.example.com/images"},
		backend.Place{URL: "s3://images", Endpoint: "http://minio.example.com:9000", AccessKey: "a", SecretKey: "b"})
	for url, allowed := range map[string]bool{
		"file://" + dir + "/object":                             true,
		"file://" + dir + "/a/b":                                true,
		"file://" + dir + "2/object":                            false,
		"file:///etc/shadow":                                    false,
		"http://files.example.com/images/o":                     true,
		"http://files.example.com/other/o":                      false,
		"http://files.example.com/imagesx":                      false,
		"http://other.example.com/images/o":                     false,
		"https://other.example.com/o":                           true, // at public addresses
		"s3://images/o":                                         true,
		"s3://images/o?endpoint=http://minio.example.com:9000":  true,
		"s3://images/o?endpoint=http://other.example.com:9000":  false,
		"s3://images/o?endpoint=https://other.example.com:9000": true, // without our credentials
		"s3://other/o":                                          true, // Amazon's, without our credentials
	} {
		if _, err := s.Open(url, 10); (err == nil) != allowed {
			t.Errorf("%s: %v", url, err)
		} else if err != nil && (!errors.Is(err, backend.ErrForbidden) || !backend.IsPermanent(err)) {
			t.Errorf("%s: error is %v", url, err)
		}
	}
}

func TestURLsThatNameNoObjectAreRefused(t *testing.T) {
	s := storage(t, backend.Place{URL: "file:///mnt/images"}, backend.Place{URL: "https://files.example.com"})
	for _, url := range []string{
		"", "x", "/mnt/images/a", "ftp://a/b", "file:///mnt/images/../x", "file:///mnt/images/./x", "file:///mnt/images//x", "file:///mnt/images/", "file:///mnt/images/%2e%2e/x",
		"file://host/mnt/images/a", "file:///mnt/images/a?b", "https://me:secret@files.example.com/a", "https://files.example.com", "https:///a", "s3:///a", "s3://bucket",
		"https://files.example.com/a#b", "https:a", "file:///mnt/images/a\x00b", "https://files.example.com/%zz",
	} {
		if _, err := s.Open(url, 10); err == nil || !backend.IsPermanent(err) || strings.Contains(err.Error(), "secret") && !strings.Contains(err.Error(), `"`) {
			t.Errorf("%q: error is %v", url, err)
		}
	}
}

func TestPlacesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, p := range []backend.Place{
		{}, {URL: "file:///"}, {URL: "file:///../"}, {URL: "file://host/a"}, {URL: "ftp://a"}, {URL: "https://"}, {URL: "https://me:secret@a/"}, {URL: "https://a/?b"},
		{URL: "file:///a", AccessKey: "k"}, {URL: "https://a", Region: "r"}, {URL: "s3://a", AccessKey: "k"}, {URL: "s3://a", Style: "odd"}, {URL: "s3://a", Endpoint: "a:9000"},
		{URL: "s3://a", Endpoint: "https://a/b"}, {URL: "s3://a", Anonymous: true, AccessKey: "a", SecretKey: "b"}, {URL: "s3://a", Headers: map[string]string{"a": "b"}},
		{URL: "https://a", CA: "/does/not/exist"},
	} {
		if _, err := backend.NewStorage(backend.StorageOptions{Places: []backend.Place{p}}); err == nil {
			t.Errorf("%+v is accepted", p)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
}

func TestUnconfiguredServersAreReachedAtPublicAddressesOnly(t *testing.T) {
	asked := false
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = true
		good(w, r)
	}))
	t.Cleanup(srv.Close)
	o := openURL(t, storage(t), srv.URL+"/object", len(content))
	_, err := backendtest.Read(context.Background(), o, 0, 100)
	if err == nil || !backend.IsPermanent(err) || !strings.Contains(err.Error(), "127.0.0.1 is an address of this machine") || asked {
		t.Errorf("asked is %v, error is %v", asked, err)
	}
}

func TestConfiguredHeadersGoToTheServerAndNotToWhereItRedirects(t *testing.T) {
	var leaked string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked += r.Header.Get("Authorization") + r.Header.Get("X-Key")
		good(w, r)
	}))
	t.Cleanup(elsewhere.Close)
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("X-Key") != "1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, elsewhere.URL+"/x?Expires=99999999999&Signature=sig", http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	s := storage(t, backend.Place{URL: srv.URL, Headers: map[string]string{"authorization": "Bearer secret", "X-Key": "1"}})
	o := openURL(t, s, srv.URL+"/object", len(content))
	for range 3 {
		if _, err := backendtest.Read(context.Background(), o, 10, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if leaked != "" || asked != 1 {
		t.Errorf("the other server was sent %q; the redirect was asked for %d times", leaked, asked)
	}
}

func TestServerThatIgnoresRangeIsNotAskedForEveryMiss(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		r.Header.Del("Range")
		good(w, r)
	}))
	t.Cleanup(srv.Close)
	for name, o := range map[string]backend.Object{
		"http":     openURL(t, storage(t, backend.Place{URL: srv.URL}), srv.URL+"/object", len(content)),
		"registry": backend.Registry(repository(t, srv.URL, patient), describe(content)),
	} {
		asked = 0
		for range 5 {
			if _, err := backendtest.Read(context.Background(), o, 10, 100); err == nil || !strings.Contains(err.Error(), "ignores Range") {
				t.Errorf("%s: error is %v", name, err)
			}
		}
		if asked != 1 {
			t.Errorf("%s: whole objects were begun %d times for 5 ranges", name, asked)
		}
	}
}

func TestSignaturesAreNotInErrors(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hijack(w) }))
	t.Cleanup(srv.Close)
	o := openURL(t, storage(t, backend.Place{URL: srv.URL}), srv.URL+"/object?Signature=secret", len(content))
	_, err := backendtest.Read(context.Background(), o, 0, 100)
	if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(o.String(), "secret") || !strings.Contains(err.Error(), srv.URL+"/object") {
		t.Errorf("%s: %v", o, err)
	}
}
