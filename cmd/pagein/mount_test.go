package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
)

// fakeDaemon notes what it is asked.
type fakeDaemon struct {
	asked      []any
	status     control.Status
	timeline   control.Timeline
	recordings control.Recordings
}

func (d *fakeDaemon) Mount(_ context.Context, req control.MountRequest) (control.MountResponse, error) {
	d.asked = append(d.asked, req)
	if strings.Contains(req.Ref, "missing") {
		return control.MountResponse{}, control.Errorf(control.NotFound, "no artifact %s", req.Ref)
	}
	return control.MountResponse{ID: "id", Target: req.Target, Transport: "file"}, nil
}

func (d *fakeDaemon) Unmount(_ context.Context, target string) error {
	d.asked = append(d.asked, target)
	return nil
}

func (d *fakeDaemon) Timeline(_ context.Context, image string, _ time.Duration) (control.Timeline, error) {
	d.asked = append(d.asked, image)
	return d.timeline, nil
}

func (d *fakeDaemon) Recordings(_ context.Context, image string) (control.Recordings, error) {
	d.asked = append(d.asked, image)
	return d.recordings, nil
}

func (d *fakeDaemon) Prepare(_ context.Context, req control.PrepareRequest) (control.PrepareResponse, error) {
	d.asked = append(d.asked, req)
	return control.PrepareResponse{ID: "id", Transport: "file", Command: "mount -t pagein x DIR"}, nil
}

func (d *fakeDaemon) Status(context.Context) (control.Status, error) { return d.status, nil }

// serveFake runs the daemon's end and returns its address.
func serveFake(t *testing.T, d *fakeDaemon) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pagein") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address := "unix://" + filepath.Join(dir, "s")
	l, err := control.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, control.Handler(d), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return address
}

func TestDaemonIsAskedForWhatTheUserMeant(t *testing.T) {
	d := &fakeDaemon{}
	address := serveFake(t, d)
	dir := t.TempDir()
	t.Chdir(dir)
	for _, c := range []struct {
		args   []string
		want   any
		stdout string
	}{
		{
			[]string{"pagein", "--address", address, "mount", "oci:lay:v1", "mnt"},
			control.MountRequest{Source: control.Source{Ref: "oci:" + dir + "/lay:v1"}, Target: dir + "/mnt"},
			"mounted oci:lay:v1 on " + dir + "/mnt (file)\n",
		},
		{
			[]string{"pagein", "--address", address, "--plain-http", "--insecure", "mount", "--transport", "fanotify", "reg.example:5000/a/b:c", "/m"},
			control.MountRequest{
				Source: control.Source{Ref: "reg.example:5000/a/b:c", PlainHTTP: true, Insecure: true}, Target: "/m", Transport: "fanotify",
			},
			"mounted reg.example:5000/a/b:c on /m (file)\n",
		},
		{[]string{"pagein", "--address", address, "umount", "mnt/"}, dir + "/mnt", ""},
		{
			[]string{"pagein", "--address", address, "prepare", "--transport=file", "oci:../x"},
			control.PrepareRequest{Source: control.Source{Ref: "oci:" + filepath.Dir(dir) + "/x"}, Transport: "file"},
			"mount -t pagein x DIR\n",
		},
		{
			[]string{"/sbin/mount.pagein", "oci:lay", "mnt", "-o", "rw,transport=file,plain-http,address=" + address},
			control.MountRequest{Source: control.Source{Ref: "oci:" + dir + "/lay", PlainHTTP: true}, Target: dir + "/mnt", Transport: "file"},
			"",
		},
	} {
		d.asked = nil
		status, stdout, stderr := pagein(t, c.args...)
		if status != 0 || stderr != "" || stdout != c.stdout || !reflect.DeepEqual(d.asked, []any{c.want}) {
			t.Errorf("%v: status %d, stderr %q, stdout %q, asked %+v; want %+v", c.args, status, stderr, stdout, d.asked, c.want)
		}
	}
	if status, _, stderr := pagein(t, "pagein", "--address", address, "mount", "oci:missing", "/m"); status != 1 ||
		stderr != fmt.Sprintf("pagein: no artifact oci:%s/missing\n", dir) {
		t.Errorf("daemon's refusal: status %d, %q", status, stderr)
	}
}

func TestJSONAnswersAreTheDaemons(t *testing.T) {
	d := &fakeDaemon{status: sampleStatus()}
	address := serveFake(t, d)
	for args, want := range map[string]any{
		"mount --json x.example/y /m": control.MountResponse{ID: "id", Target: "/m", Transport: "file"},
		"prepare --json x.example/y":  control.PrepareResponse{ID: "id", Transport: "file", Command: "mount -t pagein x DIR"},
		"status --json":               d.status,
	} {
		_, stdout, stderr := pagein(t, append([]string{"pagein", "--address", address}, strings.Fields(args)...)...)
		got := reflect.New(reflect.TypeOf(want))
		if err := json.Unmarshal([]byte(stdout), got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), want) {
			t.Errorf("%s: %q (%v, %q)", args, stdout, err, stderr)
		}
	}
}

func TestMountHelperUnderstandsMount8(t *testing.T) {
	for _, c := range []struct {
		args string
		want mountHelper
		bad  string
	}{
		{args: "r d", want: mountHelper{ref: "r", dir: "d"}},
		{args: "r d -o rw", want: mountHelper{ref: "r", dir: "d"}},
		{args: "r d -nv -orw,nofail,x-systemd.automount -t pagein", want: mountHelper{ref: "r", dir: "d"}},
		{args: "-f r d", want: mountHelper{ref: "r", dir: "d", fake: true}},
		{args: "r d -o deadline=5s,prefetch=all", want: mountHelper{ref: "r", dir: "d", policy: control.Policy{Deadline: "5s", Prefetch: "all"}}},
		{args: "r d -s -o strange", want: mountHelper{ref: "r", dir: "d"}},
		{args: "r d -vo insecure,transport=file", want: mountHelper{ref: "r", dir: "d", transport: "file", global: map[string]string{"insecure": "true"}}},
		{args: "r d -o nosuid", bad: "nosuid"},
		{args: "r d -N /proc/1/ns/mnt", bad: "namespace"},
		{args: "r d -o", bad: "lacks its value"},
		{args: "r d -z", bad: "-z"},
		{args: "r", bad: "want REF and DIR"},
		{args: "r d e", bad: "want REF and DIR"},
	} {
		got, err := parseMountHelper(strings.Fields(c.args))
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s: %v, want %q", c.args, err, c.bad)
			}
			continue
		}
		if c.want.global == nil {
			c.want.global = map[string]string{}
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v", c.args, got, err)
		}
	}
}

func sampleStatus() control.Status {
	return control.Status{
		Version: "v1", PID: 42, Started: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), Root: "/var/lib/pagein", Transport: "auto", Keeper: "process 41",
		Transports: []control.Transport{
			{Name: "fanotify", Available: true, InUse: true},
			{Name: "cachefiles", Reason: "there is no /dev/cachefiles"},
			{Name: "file", Available: true},
		},
		Policy: control.Policy{Deadline: "30s", Prefetch: "none"},
		Images: []control.Image{
			{
				ID: strings.Repeat("ab", 32), Ref: "localhost:5000/go:lazy", Transport: "fanotify", Targets: []string{"/mnt/go", "/mnt/go2"},
				Policy: control.Policy{Deadline: "wait", Prefetch: "none"},
				Blobs:  2, TotalBytes: 300 << 20, PresentBytes: 12 << 20, FetchedBytes: 5 << 20, State: control.Waiting, Problem: "registry localhost:5000: connection refused",
			},
		},
		Totals: control.Totals{
			BackendBytes: 5 << 20, BackendRequests: 1, BackendErrors: 2, BackendRetries: 3, FailedReads: 4, BackendHedges: 5, WaitingReads: 6,
			DemandBytes: 1 << 20, AheadBytes: 2 << 20, AroundBytes: 3 << 19, UselessBytes: 1 << 19,
			OwnTime:  control.Quantiles{Count: 9, P50: 90 * time.Microsecond, P99: time.Millisecond, Max: 2 * time.Millisecond},
			MissTime: control.Quantiles{Count: 9, P50: 12 * time.Millisecond, P99: 20 * time.Millisecond, Max: 31415926},
		},
		Cache: control.Cache{
			Bytes: 10 << 20, FreeBytes: 7 << 30, TotalBytes: 10 << 30, ReserveBytes: 64 << 20, HighPercent: 90, LowPercent: 80,
			Evicted: map[string]int64{"watermark": 2 << 20, "gc": 1 << 20, "full": 0},
		},
	}
}
