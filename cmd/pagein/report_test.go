package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
	"github.com/pagein/pagein/profile"
)

func TestImagesAreFoundByWhatPeopleCallThem(t *testing.T) {
	s := control.Status{Images: []control.Image{
		{ID: strings.Repeat("ab", 32), Ref: "localhost:5000/a:1", Targets: []string{"/mnt/a", "/mnt/b c"}},
		{ID: "abab" + strings.Repeat("cd", 30), Ref: "localhost:5000/b@sha256:" + strings.Repeat("0", 64), Targets: []string{"/mnt/other"}},
	}}
	for what, want := range map[string]int{
		"localhost:5000/a:1": 0, "localhost:5000/b": 1, "/mnt/a": 0, "/mnt/a/usr/bin": 0, "/mnt/b c": 0, "/mnt/other/x": 1, "ababab": 0, "ababcd": 1, strings.Repeat("ab", 32): 0,
		"abab": -1, "aba": -1, "/mnt": -1, "/mnt/ab": -1, "": -1, "localhost:5000/a": -1, "nothing": -1,
	} {
		got, err := findImage(s, what)
		switch {
		case want < 0 && err == nil:
			t.Errorf("%q is %s", what, got.Ref)
		case want >= 0 && (err != nil || got.ID != s.Images[want].ID):
			t.Errorf("%q is %s, %v", what, got.Ref, err)
		}
	}
}

func TestRatesAreRead(t *testing.T) {
	for text, want := range map[string]float64{"": 0, "200Mbit/s": 25e6, "200Mbit": 25e6, "1 Gbit/s": 125e6, "64kbit/s": 8000, "25MB/s": 25e6, "1MiB": 1 << 20} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q is %f, %v", text, got, err)
		}
	}
	for _, text := range []string{"fast", "0", "-1Mbit/s", "NaNMbit", "InfGbit/s", "1e99Gbit/s", "Mbit"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q is %f", text, got)
		}
	}
}

func TestProfilesAreDrawn(t *testing.T) {
	dir := t.TempDir()
	path, page := filepath.Join(dir, "p"), filepath.Join(dir, "r.html")
	p := &profile.Profile{Entries: []profile.Entry{{Path: "/usr/bin/<x>", Size: 5000, Len: 4096}}}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Write(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	status, stdout, stderr := pagein(t, "pagein", "report", path, "-o", page)
	if status != 0 || !strings.Contains(stdout, page) {
		t.Fatalf("%d, %q, %q", status, stdout, stderr)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "/usr/bin/&lt;x&gt;") {
		t.Errorf("%.200s, %v", html, err)
	}
	for _, args := range [][]string{{"report"}, {"report", "a", "b"}, {"report", path, "--link", "fast"}, {"report", "nothing", "--image", "x"}, {"explain"}, {"profile", "suggest"}} {
		if status, _, stderr := pagein(t, append([]string{"pagein"}, args...)...); status != exitUsage || stderr == "" {
			t.Errorf("%v: %d, %q", args, status, stderr)
		}
	}
	if status, _, stderr := pagein(t, "pagein", "report", os.DevNull+"/x"); status != exitFailure || stderr == "" {
		t.Errorf("%d, %q", status, stderr)
	}
}

func TestWhatHappenedIsToldWithoutTheMetadataToo(t *testing.T) {
	s := sampleStatus()
	d := &fakeDaemon{status: s, timeline: control.Timeline{Image: s.Images[0], Meta: filepath.Join(t.TempDir(), "gone"), Snapshot: timeline.Snapshot{
		Events: []timeline.Event{{Kind: timeline.Wait, Took: time.Second, Len: 4096}},
	}}}
	address := serveFake(t, d)
	status, stdout, stderr := pagein(t, "pagein", "--address", address, "explain", "/mnt/go")
	if status != 0 || !strings.Contains(stdout, "1 read waited") || !strings.Contains(stdout, "(no file that is known)") {
		t.Errorf("%d, %q, %q", status, stdout, stderr)
	}
	if len(d.asked) != 1 || d.asked[0] != s.Images[0].ID {
		t.Errorf("asked %v", d.asked)
	}
}
