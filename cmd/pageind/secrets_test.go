package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// secret is a part of every secret in the tests below. What must be kept says hush.
const secret = "hush5ecret"

// guarded is a registry that wants a password and sends readers to storage whose URLs are signed, and a file server that wants a header.
type guarded struct {
	registry, storage, files *httptest.Server
	failing                  atomic.Bool // the storage, after it has answered
	asked                    [3]atomic.Int64
}

func newGuarded(t *testing.T, dir string) *guarded {
	g := new(guarded)
	real := registry.New(registry.Logger(quiet()))
	g.storage = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked[1].Add(1)
		if r.URL.Query().Get("X-Amz-Signature") != secret+"-signature" {
			http.Error(w, "no signature", http.StatusForbidden)
			return
		}
		if g.failing.Load() {
			http.Error(w, "SignatureDoesNotMatch: "+r.URL.String(), http.StatusInternalServerError)
			return
		}
		real.ServeHTTP(w, r)
	}))
	g.registry = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked[0].Add(1)
		if _, password, _ := r.BasicAuth(); password != secret+"-password" {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, g.storage.URL+r.URL.Path+"?X-Amz-Expires=600&X-Amz-Credential="+secret+"&X-Amz-Signature="+secret+"-signature", http.StatusTemporaryRedirect)
			return
		}
		real.ServeHTTP(w, r)
	}))
	files := http.FileServer(http.Dir(dir))
	g.files = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.asked[2].Add(1)
		if r.Header.Get("Authorization") != "Bearer "+secret+"-header" {
			http.Error(w, "no header", http.StatusForbidden)
			return
		}
		if g.failing.Load() {
			http.Error(w, "not today, "+r.Header.Get("Authorization"), http.StatusBadGateway)
			return
		}
		files.ServeHTTP(w, r)
	}))
	for _, s := range []*httptest.Server{g.registry, g.storage, g.files} {
		t.Cleanup(s.Close)
	}
	return g
}

// TestSecretsStayWhereTheyAreConfigured gives the daemon passwords, keys, headers and signed URLs, has it succeed and fail with all of them at the most talkative
// level, and looks for them in everything that it says, writes or starts.
func TestSecretsStayWhereTheyAreConfigured(t *testing.T) {
	l := newAttachedLab(t)
	dir := filepath.Join(l.dir, "files")
	g := newGuarded(t, dir)
	host := strings.TrimPrefix(g.registry.URL, "http://")
	t.Setenv("DOCKER_CONFIG", l.dir)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret+"-environment")
	if err := os.WriteFile(filepath.Join(l.dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"username":"me","password":%q}}}`, host, secret+"-password"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := l.configure("[[storage]]\nurl = '%s/'\nheaders = { Authorization = 'Bearer %s-header' }\n[[storage]]\nurl = 's3://bucket'\nendpoint = 'http://127.0.0.1:1'\n"+
		"access-key = '%[2]s-key'\nsecret-key = '%[2]s-key'\n", g.files.URL, secret)
	if err := os.Chmod(config[1], 0o644); err != nil { // which is to be warned of
		t.Fatal(err)
	}
	t.Setenv("PAGEIN_CONFIG", config[1])
	one, two := l.tree(1), l.bigFiles("a", "b", "c", "d", "e")
	l.convert("dir:"+one, host+"/app:1")
	l.convert("--attach", g.files.URL+"=file://"+dir, "--keep-data", "dir:"+two, host+"/app:2")

	l.start(append(config, "--log-level", "debug", "--metrics-address", "127.0.0.1:0", "--read-deadline", "1s")...)
	first, second := l.mount(host+"/app:1", "a"), l.mount(host+"/app:2", "b")
	var said bytes.Buffer
	for _, failing := range []bool{true, false} {
		g.failing.Store(failing)
		for _, path := range []string{first, second + "/e"} {
			_ = filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					_, err = os.ReadFile(path)
				}
				if failing && err != nil {
					return filepath.SkipAll // as it should be; others take as long
				}
				return err
			})
		}
		out, err := l.try("mount", host+"/app:none", l.target(fmt.Sprint(failing)))
		fmt.Fprintln(&said, out, err, l.pagein("status"), l.pagein("status", "--json"), l.metrics(), l.pagein("explain", first), l.pagein("explain", "--json", second))
	}
	for i, what := range []string{"registry", "signed storage", "file server"} {
		if g.asked[i].Load() == 0 {
			t.Errorf("the %s was never asked: the test shows nothing", what)
		}
	}
	said.WriteString(l.said())
	if !strings.Contains(said.String(), "level=DEBUG") || !strings.Contains(said.String(), "level=ERROR") {
		t.Error("the daemon said too little: the test shows nothing")
	}
	if !strings.Contains(said.String(), "everybody on this machine can read the keys") {
		t.Error("nobody was warned of a configuration file that all can read")
	}
	for _, pid := range append(l.keepers(), l.daemon.Pid) {
		for _, name := range []string{"cmdline", "environ"} {
			if name == "environ" && pid == l.daemon.Pid {
				continue // who starts it chooses
			}
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
			if err != nil {
				t.Fatal(err)
			}
			said.Write(b)
		}
	}
	if at := strings.Index(said.String(), secret); at >= 0 {
		text := said.String()
		t.Errorf("a secret was said: …%s…", text[max(0, at-300):min(len(text), at+100)])
	}
	for _, below := range []string{l.root, l.dir + "/run"} {
		l.checkFiles(below)
	}
}

// checkFiles looks for secrets in files, and for files that others could read, or change, directories that nobody else may enter left aside.
func (l *lab) checkFiles(below string) {
	l.Helper()
	seen := 0
	err := filepath.WalkDir(below, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		private := info.Mode().Perm()&0o077 == 0
		if !d.IsDir() && !private && !l.enclosed(path) || info.Mode().Perm()&0o022 != 0 {
			l.Errorf("%s has mode %v", path, info.Mode())
		}
		if !info.Mode().IsRegular() || filepath.Base(filepath.Dir(path)) == "blobs" { // those have what the images have, and whoever reads them would wait for the rest
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, 64<<20))
		if bytes.Contains(b, []byte(secret)) {
			l.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil || seen < 3 {
		l.Errorf("look at %d files below %s: %v", seen, below, err)
	}
}

// enclosed reports whether a directory between the lab's and the file is closed to others.
func (l *lab) enclosed(path string) bool {
	for dir := filepath.Dir(path); dir != l.dir && len(dir) > len(l.dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o077 == 0 {
			return true
		}
	}
	return false
}
