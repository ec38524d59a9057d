package main

import (
	"io"
	"log"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci/artifact"
)

// TestTheNameThatWasPulledNamesTheMount has images mounted as containerd has them: by the digest of an artifact.
func TestTheNameThatWasPulledNamesTheMount(t *testing.T) {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true)))
	t.Cleanup(srv.Close)
	name, repo := platformsAt(t, strings.TrimPrefix(srv.URL, "http://"))
	var mounted []control.Image // of two artifacts of the image, the older one and the one that would be mounted now
	for _, level := range []string{"fast", "best"} {
		s := convertJSON(t, "--level", level, name+":v1")
		a, err := artifact.Load(t.Context(), repo, s.Descriptor, "test")
		if err != nil {
			t.Fatal(err)
		}
		mounted = append(mounted, control.Image{ID: a.MetaDigest.Encoded(), Ref: name + "@" + a.Descriptor.Digest.String()})
	}
	other := control.Image{ID: strings.Repeat("ab", 32), Ref: name + "@sha256:" + strings.Repeat("0", 64)}
	elsewhere := control.Image{ID: strings.Repeat("cd", 32), Ref: "localhost:1/elsewhere@sha256:" + strings.Repeat("0", 64)}
	if mounted[0].ID == mounted[1].ID || mounted[0].Ref == mounted[1].Ref {
		t.Fatalf("both artifacts are %+v", mounted[0])
	}
	for _, c := range []struct {
		what string
		have []control.Image
		want string // ID
		says string
	}{
		{name + ":v1", []control.Image{elsewhere, other, mounted[1]}, mounted[1].ID, ""},
		{name + ":v1", []control.Image{other, mounted[0]}, mounted[0].ID, ""},
		{name + ":v1", []control.Image{elsewhere, other}, other.ID, "all that is mounted of that repository"},
		{name + ":v1", []control.Image{elsewhere}, "", "see pagein status"},
		{name + ":none", []control.Image{other, mounted[0]}, "", mounted[0].Ref},
		{name + ":none", []control.Image{mounted[0]}, mounted[0].ID, "all that is mounted of that repository"},
		{"localhost:1/elsewhere:1", []control.Image{mounted[0], elsewhere}, elsewhere.ID, "refused"},
	} {
		for _, command := range []string{"explain", "report"} {
			d := &fakeDaemon{status: control.Status{Images: c.have}, timeline: control.Timeline{Meta: "/nonexistent"}}
			args := []string{"pagein", "--address", serveFake(t, d), command}
			if command == "report" {
				args = append(args, "-o", "-")
			}
			status, _, stderr := pagein(t, append(args, c.what)...)
			if ok := status == 0; ok != (c.want != "") || ok && !slices.Equal(d.asked, []any{c.want}) || !strings.Contains(stderr, c.says) || c.says == "" && stderr != "" {
				t.Errorf("%s %s of %v: status %d, asked for %v: %s", command, c.what, c.have, status, d.asked, stderr)
			}
		}
	}
}

// TestRecordingsAreFoundByTheNameThatWasPulled asks while the registry is away.
func TestRecordingsAreFoundByTheNameThatWasPulled(t *testing.T) {
	image := control.Image{ID: strings.Repeat("ab", 32), Ref: "localhost:1/app@sha256:" + strings.Repeat("0", 64)}
	d := &fakeDaemon{status: control.Status{Images: []control.Image{image}}}
	address := serveFake(t, d)
	if status, _, stderr := pagein(t, "pagein", "--address", address, "profile", "suggest", "localhost:1/app:1"); status == 0 || !slices.Equal(d.asked, []any{image.ID}) {
		t.Errorf("status %d, asked for %v: %s", status, d.asked, stderr)
	}
}

func TestAnIDThatIsGivenWholeIsEnough(t *testing.T) {
	for target, want := range map[string][]string{
		"/run/containerd/io.containerd.runtime.v2.task/default/t3/rootfs": {"t3", "rootfs"}, "/var/lib/docker/rootfs/overlayfs/0123": {"overlayfs", "0123"}, "/": nil, "/x": {"x"},
	} {
		if got := containerIDs(target); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	s := control.Status{Images: []control.Image{{ID: "abc"}, {ID: "abcde"}, {ID: "abcdefg"}}}
	for what, want := range map[string]string{"abc": "abc", "abcde": "abcde", "abcdef": "abcdefg", "ab": "", "abcd": ""} {
		if got, err := findImage(s, what); got.ID != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v", what, got.ID, err)
		}
	}
}

// TestWhyAnImageWasUnpackedIsExplained asks for an image that containerd has pulled and unpacked, while another of its repository is mounted.
func TestWhyAnImageWasUnpackedIsExplained(t *testing.T) {
	mounted := control.Image{ID: strings.Repeat("cd", 32), Ref: "localhost:1/app@sha256:" + strings.Repeat("0", 64)}
	unpacked := []control.Unpacked{{Image: "localhost:1/app:latest", Reason: "no artifact is attached", At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.Local)}}
	for name, images := range map[string][]control.Image{"localhost:1/app": nil, "localhost:1/app:latest": {mounted}} {
		d := &fakeDaemon{status: control.Status{Images: images, Unpacked: unpacked}}
		status, _, stderr := pagein(t, "pagein", "--address", serveFake(t, d), "explain", name)
		if want := "localhost:1/app:latest was unpacked as any other image on 2026-03-04 05:06:07, so nobody waits for its bytes: no artifact is attached"; status != exitFailure || !strings.Contains(stderr, want) || len(d.asked) > 0 {
			t.Errorf("%s: status %d, asked for %v: %s", name, status, d.asked, stderr)
		}
	}
}

// TestAnImageThatIsNowhereIsNotRecorded asks for one that its registry does not have.
func TestAnImageThatIsNowhereIsNotRecorded(t *testing.T) {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	image := strings.TrimPrefix(srv.URL, "http://") + "/nope:1"
	status, _, stderr := pagein(t, "pagein", "--address", serveFake(t, &fakeDaemon{}), "trace", "--image", image, "--until", "time:1h", "--probe", "misses")
	if status != exitFailure || !strings.Contains(stderr, "record "+image+": there is no such image: pageind serves none of that name") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
