package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fake is a Service that notes what it is asked and fails with err.
type fake struct {
	asked  []any
	err    error
	status Status

	timeline   Timeline
	recordings Recordings
	block      chan struct{} // if not nil: Prepare says so and waits for the client to hang up
}

func (f *fake) Mount(_ context.Context, req MountRequest) (MountResponse, error) {
	f.asked = append(f.asked, req)
	return MountResponse{ID: "id", Target: "/a b", Transport: "file"}, f.err
}

func (f *fake) Unmount(_ context.Context, target string) error {
	f.asked = append(f.asked, target)
	return f.err
}

func (f *fake) Prepare(ctx context.Context, req PrepareRequest) (PrepareResponse, error) {
	if f.block != nil {
		f.block <- struct{}{}
		<-ctx.Done()
		f.block <- struct{}{}
		return PrepareResponse{}, ctx.Err()
	}
	f.asked = append(f.asked, req)
	return PrepareResponse{ID: "id", Transport: "file", Command: "mount x DIR"}, f.err
}

func (f *fake) GC(_ context.Context, req GCRequest) (GCResponse, error) {
	f.asked = append(f.asked, req)
	return GCResponse{DryRun: req.DryRun, Bytes: 5, Evicted: []Evicted{{Kind: "blob", ID: "id", Bytes: 5}}}, f.err
}

func (f *fake) CheckStore(_ context.Context, req CheckRequest) (CheckResponse, error) {
	f.asked = append(f.asked, req)
	return CheckResponse{Problems: 1, ProblemList: []CheckProblem{{Part: "frame"}}}, f.err
}

func (f *fake) Timeline(_ context.Context, image string, last time.Duration) (Timeline, error) {
	f.asked = append(f.asked, image, last)
	return f.timeline, f.err
}

func (f *fake) Recordings(_ context.Context, image string) (Recordings, error) {
	f.asked = append(f.asked, image)
	return f.recordings, f.err
}

func (f *fake) Status(context.Context) (Status, error) { return f.status, f.err }

// serve runs a daemon's end with svc and returns its address.
func serve(t *testing.T, svc Service) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "control") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address := "unix://" + filepath.Join(dir, "run", "s")
	l, err := Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Handler(svc), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return address
}

func client(t *testing.T, address string) *Client {
	t.Helper()
	c, err := NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestRequestsAndAnswersTravelWhole(t *testing.T) {
	svc := &fake{status: Status{
		Version: "v", PID: 7, Started: time.Unix(1, 0).UTC(), Root: "/r", Transport: "auto", Keeper: "k",
		Policy:     Policy{"30s", "all"},
		Transports: []Transport{{Name: "fanotify", Available: false, Reason: "none", InUse: true}},
		Images: []Image{{
			ID: "i", Ref: "r", Transport: "t", Targets: []string{"/a b"}, Blobs: 1, MetaBytes: 2, TotalBytes: 3, PresentBytes: 4, FetchedBytes: 5,
			Policy: Policy{"wait", "none"}, State: Waiting, Problem: "p",
		}},
		Totals: Totals{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, Quantiles{1, 2, 3, 4}, Quantiles{5, 6, 7, 8}},
	}}
	c := client(t, serve(t, svc))
	mount := MountRequest{Source{"oci:/x:y", true, true}, "/a b/ü?&=#", "file", Policy{"30s", "all"}}
	if got, err := c.Mount(t.Context(), mount); err != nil || got != (MountResponse{"id", "/a b", "file"}) {
		t.Errorf("mount: %+v, %v", got, err)
	}
	prepare := PrepareRequest{Source{Ref: "x"}, "file", Policy{}}
	if got, err := c.Prepare(t.Context(), prepare); err != nil || got != (PrepareResponse{"id", "file", "mount x DIR"}) {
		t.Errorf("prepare: %+v, %v", got, err)
	}
	if err := c.Unmount(t.Context(), mount.Target); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if want := []any{mount, prepare, mount.Target}; !reflect.DeepEqual(svc.asked, want) {
		t.Errorf("the service was asked %+v, want %+v", svc.asked, want)
	}
	if got, err := c.Status(t.Context()); err != nil || !reflect.DeepEqual(got, svc.status) {
		t.Errorf("status: %+v, %v", got, err)
	}
	if err := c.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
}

func TestErrorsTravelWithTheirClass(t *testing.T) {
	svc := &fake{}
	c := client(t, serve(t, svc))
	for _, class := range []Class{NotFound, AlreadyExists, Invalid, Unavailable, Internal} {
		svc.err = errors.Join(Errorf(class, "because"))
		err := c.Unmount(t.Context(), "/x")
		if ClassOf(err) != class || err.Error() != "because" {
			t.Errorf("%s arrived as %s: %v", class, ClassOf(err), err)
		}
	}
	svc.err = errors.New("plain")
	if _, err := c.Status(t.Context()); ClassOf(err) != Internal || err.Error() != "plain" {
		t.Errorf("a plain error arrived as %s: %v", ClassOf(err), err)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	svc := &fake{}
	c := client(t, serve(t, svc))
	for _, r := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/mounts", `{"ref":"x","target":"/t","wish":1}`, 400},
		{"POST", "/v1/mounts", `{"ref":"x","target":"/t"} {}`, 400},
		{"POST", "/v1/mounts", `{"ref":"x","target":"t"}`, 400},
		{"POST", "/v1/mounts", `{"target":"/t"}`, 400},
		{"POST", "/v1/mounts", ``, 400},
		{"POST", "/v1/mounts", `{"ref":"` + strings.Repeat("x", maxRequest) + `","target":"/t"}`, 400},
		{"POST", "/v1/prepare", `{}`, 400},
		{"POST", "/v1/prepare", `[]`, 400},
		{"DELETE", "/v1/mounts", ``, 400},
		{"DELETE", "/v1/mounts?target=x", ``, 400},
		{"GET", "/v1/timeline", ``, 400},
		{"GET", "/v1/timeline?image=../../etc/passwd", ``, 400},
		{"GET", "/v1/timeline?last=x&image=" + strings.Repeat("ab", 32), ``, 400},
		{"GET", "/v1/recordings?image=*", ``, 400},
		{"GET", "/v1/mounts", ``, 405},
		{"GET", "/v2/status", ``, 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://pageind"+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != r.status {
			t.Errorf("%s %s %.60s: %s, want %d", r.method, r.path, r.body, resp.Status, r.status)
		}
	}
	if len(svc.asked) > 0 {
		t.Errorf("the service was asked %v", svc.asked)
	}
}

func TestHangingUpEndsTheRequest(t *testing.T) {
	svc := &fake{block: make(chan struct{})}
	c := client(t, serve(t, svc))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := c.Prepare(ctx, PrepareRequest{Source: Source{Ref: "x"}})
		failed <- err
	}()
	<-svc.block
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("client: %v", err)
	}
	select {
	case <-svc.block:
	case <-time.After(5 * time.Second):
		t.Error("the service goes on")
	}
}

func TestOutOfReachSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{filepath.Join(dir, "none"), dead} {
		err := client(t, "unix://"+path).Health(t.Context())
		if ClassOf(err) != Unavailable || !strings.Contains(err.Error(), "cannot reach pageind at "+path+": is it running?") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, address := range []string{"", "unix://", "tcp://x:1", "foo", "./foo", "unix:///" + strings.Repeat("x", 107)} {
		if _, err := NewClient(address); err == nil {
			t.Errorf("address %q accepted", address)
		}
	}
}

func TestSocketIsPrivateAndNotTakenFromTheLiving(t *testing.T) {
	address := serve(t, &fake{})
	path, err := SocketPath(address)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := Listen(t.Context(), address); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
		t.Errorf("second daemon: %v", err)
	}
	dead := filepath.Join(filepath.Dir(path), "dead")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	again, err := Listen(t.Context(), dead)
	if err != nil {
		t.Fatalf("in place of a dead socket: %v", err)
	}
	again.Close()
	file := filepath.Join(filepath.Dir(path), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(t.Context(), file); err == nil {
		l.Close()
		t.Error("a file was replaced by a socket")
	}
}
