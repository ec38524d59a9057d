package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/profile"
)

// outage is a registry that can be made to refuse reads.
type outage struct {
	*httptest.Server
	out atomic.Bool
}

func newOutage(t *testing.T) *outage {
	o := &outage{}
	h := registry.New(registry.Logger(quiet()))
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.out.Load() {
			http.Error(w, "closed for a while", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

func (o *outage) host() string { return strings.TrimPrefix(o.URL, "http://") }

// marks counts the inodes that the daemon's fanotify groups watch.
func (l *lab) marks() (n int) {
	l.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", l.daemon.Pid))
	if err != nil {
		l.Fatal(err)
	}
	for _, path := range infos {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			l.Fatal(err)
		}
		n += strings.Count(string(b), "fanotify ino:")
	}
	return n
}

// TestAPrefetchedImageNeedsNobody has an image fetched in the background, and reads it when daemon and registry are gone.
func TestAPrefetchedImageNeedsNobody(t *testing.T) {
	l, server := newLab(t), newOutage(t)
	tree, ref := l.bigFiles("a", "b", "c"), server.host()+"/app:1"
	l.pagein("convert", "dir:"+tree, ref)
	l.start("--transport", "fanotify")
	target := l.target("a")
	l.pagein("mount", "--prefetch", "all", ref, target)
	l.waitFor("the image to be complete", func() bool { return l.status().Images[0].State == control.Complete })
	s := l.status()
	if s.Totals.PrefetchBytes == 0 || s.Images[0].PresentBytes != s.Images[0].TotalBytes {
		t.Errorf("complete with %+v, %+v", s.Images[0], s.Totals)
	}
	l.waitFor("the marks to be dropped", func() bool { return l.marks() == 0 })
	server.out.Store(true)
	l.stop(unix.SIGKILL)
	l.readAll(tree, target)
	server.out.Store(false)
}

// TestWhatAProfileNamesIsFetchedFirst converts with a profile, mounts, and reads what it names when the registry is gone.
func TestWhatAProfileNamesIsFetchedFirst(t *testing.T) {
	l, server := newLab(t), newOutage(t)
	tree, ref := l.bigFiles("a", "b", "hot"), server.host()+"/app:1"
	var touched bytes.Buffer
	p := profile.Profile{Entries: []profile.Entry{{Path: "/hot", Len: 3 << 20}}}
	if err := p.Write(&touched); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(l.dir, "profile")
	if err := os.WriteFile(file, touched.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	l.pagein("convert", "--profile", file, "dir:"+tree, ref)
	l.start()
	target := l.mount(ref, "a")
	s := l.idle()
	if i := s.Images[0]; s.Totals.PrefetchBytes < 3<<20 || i.PresentBytes != 3<<20 || i.State != control.Lazy {
		t.Errorf("nobody has read anything yet: %+v, %+v", i, s.Totals)
	}
	server.out.Store(true)
	got, err := os.ReadFile(filepath.Join(target, "hot"))
	want, wantErr := os.ReadFile(filepath.Join(tree, "hot"))
	if err != nil || wantErr != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v, %v", len(got), err, wantErr)
	}
	server.out.Store(false)
	l.pagein("mount", "--prefetch", "all", ref, l.target("b"))
	l.waitFor("the rest to be fetched too", func() bool { return l.status().Images[0].State == control.Complete })
	l.readAll(tree, target)
}

// TestReadersGetAnErrorAtTheirDeadline takes the registry away, and brings it back.
func TestReadersGetAnErrorAtTheirDeadline(t *testing.T) {
	l, server := newLab(t), newOutage(t)
	tree, ref := l.bigFiles("a", "b"), server.host()+"/app:1"
	l.pagein("convert", "dir:"+tree, ref)
	l.start("--metrics-address", "127.0.0.1:0")
	target := l.target("a")
	l.pagein("mount", "--deadline", "1s", ref, target)
	if s := l.status(); s.Images[0].Policy != (control.Policy{Deadline: "1s", Prefetch: "none"}) || s.Policy != (control.Policy{Deadline: "30s", Prefetch: "none"}) {
		t.Errorf("status has %+v of the image, %+v of others", s.Images[0].Policy, s.Policy)
	}
	if got := l.status().Images[0].State; got != control.Lazy {
		t.Errorf("state %q", got)
	}
	server.out.Store(true)
	start := time.Now()
	if _, err := os.ReadFile(filepath.Join(target, "a")); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want %v", err, unix.EIO)
	}
	// The kernel asks a few times before it gives up.
	if took := time.Since(start); took < time.Second || took > 20*time.Second {
		t.Errorf("the reader waited %v", took)
	}
	if r := l.explained(target); r.Deadline != "1s" || r.Waits.Late == 0 || r.Image.ReadBytes != 0 {
		t.Errorf("it is explained by the deadline %q, %+v, with %d bytes read", r.Deadline, r.Waits, r.Image.ReadBytes)
	}
	var i control.Image
	l.waitFor("the image to be failing", func() bool { // the kernel may still wait for what it reads ahead
		i = l.status().Images[0]
		return i.State == control.Failing
	})
	for _, word := range []string{server.host() + "/app@sha256:", "503", "bytes "} {
		if !strings.Contains(i.Problem, word) {
			t.Errorf("the problem does not say %q: %s", word, i.Problem)
		}
	}
	metrics := l.metrics()
	for _, want := range []string{
		`(?m)^pagein_backend_errors_total\{backend="registry"\} [1-9]`, `(?m)^pagein_backend_retries_total\{backend="registry"\} [1-9]`,
		`(?m)^pagein_kernel_request_errors_total [1-9]`, `(?m)^pagein_images\{state="failing",transport="\w+"\} 1$`, `(?m)^pagein_blocked_readers 0$`,
		`(?m)^pagein_mount_duration_seconds_count 1$`, `(?m)^pagein_cache_bytes \d`,
	} {
		if !regexp.MustCompile(want).MatchString(metrics) {
			t.Errorf("metrics lack %s:\n%s", want, metrics)
		}
	}
	if strings.Contains(metrics, "sha256") || strings.Contains(metrics, server.host()) {
		t.Error("metrics name an image or a registry")
	}
	if n := strings.Count(metrics, "pagein_backend_requests_total{"); n != 4 { // a kind of backend, four reasons
		t.Errorf("%d series count requests", n)
	}
	server.out.Store(false)
	l.readAll(tree, target)
	if i := l.status().Images[0]; i.Problem != "" || i.State != control.Complete {
		t.Errorf("when all is well again: state %q, problem %q", i.State, i.Problem)
	}
}

// TestReadersMayWaitAsLongAsItTakes has a reader sit through an outage.
func TestReadersMayWaitAsLongAsItTakes(t *testing.T) {
	l, server := newLab(t), newOutage(t)
	tree, ref := l.bigFiles("a"), server.host()+"/app:1"
	l.pagein("convert", "dir:"+tree, ref)
	l.start("--read-deadline", "1s")
	target := l.target("a")
	l.pagein("mount", "--deadline", "wait", ref, target)
	server.out.Store(true)
	read := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(filepath.Join(target, "a"))
		read <- err
	}()
	l.waitFor("the status to tell", func() bool { return l.status().Images[0].State == control.Waiting })
	if l.status().Totals.WaitingReads == 0 {
		t.Error("nobody seems to wait")
	}
	select {
	case err := <-read:
		t.Errorf("the reader did not wait: %v", err)
	case <-time.After(2 * time.Second):
	}
	server.out.Store(false)
	if err := <-read; err != nil {
		t.Error(err)
	}
	l.readAll(tree, target)
}

// metrics is what the daemon serves over TCP, where the API must not be.
func (l *lab) metrics() string {
	l.Helper()
	var found []string
	l.waitFor("the address of the metrics", func() bool {
		found = regexp.MustCompile(`serving metrics" address=(\S+)`).FindStringSubmatch(l.said())
		return found != nil
	})
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + found[1] + path)
		if err != nil {
			l.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			l.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for path, want := range map[string]int{"/v1/status": http.StatusNotFound, "/readyz": http.StatusOK, "/healthz": http.StatusOK, "/debug/pprof/": http.StatusNotFound} {
		if got, _ := get(path); got != want {
			l.Errorf("%s over TCP: %d, want %d", path, got, want)
		}
	}
	_, body := get("/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		l.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "pagein_") {
			l.Errorf("metric %s: %s", p.Metric, p.Text)
		}
	}
	return body
}

// measures fails the test unless the metrics have these lines, or parts of lines.
func (l *lab) measures(want ...string) {
	l.Helper()
	metrics := l.metrics()
	for _, w := range want {
		if !strings.Contains(metrics, w) {
			l.Errorf("metrics lack %s", w)
		}
	}
}

func TestReadingConfigurationThatMakesNoSenseIsRefused(t *testing.T) {
	for _, c := range []struct {
		set   readingConfig
		words string
	}{
		{readingConfig{ReadDeadline: "never", Prefetch: "none"}, "read-deadline"},
		{readingConfig{ReadDeadline: "-1s", Prefetch: "none"}, "read-deadline"},
		{readingConfig{ReadDeadline: "1s", Prefetch: "some"}, "prefetch"},
		{readingConfig{ReadDeadline: "1s", Prefetch: "none", HostRequests: 1}, "host-requests"},
		{readingConfig{ReadDeadline: "1s", Prefetch: "none", HostBandwidth: "1kB"}, "host-bandwidth"},
		{readingConfig{ReadDeadline: "1s", Prefetch: "none", HostBandwidth: "much"}, "host-bandwidth"},
		{readingConfig{ReadDeadline: "1s", Prefetch: "none", ReadAround: "some"}, "read-around"},
		{readingConfig{ReadDeadline: "1s", Prefetch: "none", ReadAround: "1GB"}, "read-around"},
	} {
		if _, _, err := c.set.reading(); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: %v", c.set, err)
		}
	}
	if _, err := listenMetrics(t.Context(), "256.0.0.1:x"); err == nil {
		t.Error("an address that is none was taken")
	}
	o, all, err := readingConfig{ReadDeadline: "wait", Prefetch: "all", HostRequests: 4, HostBandwidth: "20MB", ReadAround: "1MiB"}.reading()
	if err != nil || !all || o.ReadAround != 1<<20 || o.Deadline >= 0 || o.HostRequests != 4 || o.HostBandwidth != 20_000_000 {
		t.Errorf("%+v, %v, %v", o, all, err)
	}
}
