package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/profile"
)

// workload is a directory with files, and what is touched of them.
type workload struct {
	dir, tree string
	touched   profile.Profile
}

func newWorkload(t *testing.T) *workload {
	t.Helper()
	w := &workload{dir: t.TempDir()}
	w.tree = filepath.Join(w.dir, "tree")
	random := rand.NewChaCha8([32]byte{9})
	for name, size := range map[string]int{"bin/prog": 900_000, "lib/a.so": 300_001, "etc/conf": 40, "lib/small": 6000, "lib/cold": 200_000} {
		path := filepath.Join(w.tree, name)
		data := make([]byte, size)
		_, _ = random.Read(data[:size/2])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.touched.Entries = []profile.Entry{
		{Path: "/bin/prog", Off: 100 * 4096, Len: 3 * 4096}, {Path: "/lib/small", Len: 4096}, {Path: "/etc/conf", Len: 4096}, {Path: "/bin/prog", Len: 4096, Kind: profile.KindFault},
		{Path: "/lib/a.so", Off: 20 * 4096, Len: 54 * 4096}, {Path: "/gone", Len: 8192},
	}
	return w
}

// file writes the profile and returns its path.
func (w *workload) file(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := w.touched.Write(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "profile")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// succeed runs the program and returns what it prints.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := pagein(t, append([]string{"pagein"}, args...)...)
	if status != exitSuccess {
		t.Fatalf("%q: status %d: %s%s", args, status, stdout, stderr)
	}
	return stdout
}

// optimized runs the command and returns its summary.
func optimized(t *testing.T, args ...string) (s optimizeSummary) {
	t.Helper()
	if err := json.Unmarshal([]byte(succeed(t, append([]string{"optimize", "--json"}, args...)...)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnOptimizedArtifactShowsTheSameAndHasWhatIsHotTwice(t *testing.T) {
	w := newWorkload(t)
	base, layout := "oci:"+w.dir+"/l:base", "oci:"+w.dir+"/l:"
	succeed(t, "convert", "dir:"+w.tree, base)
	s := optimized(t, "--profile", w.file(t), base, layout+"hot")
	const page = 4096
	if c := s.Coverage; c.Same != 59*page || c.Small != page || c.Missing != 2*page || c.Files != 5 || c.Found != 4 || s.Hot < 60*page || s.Hot > 70*page {
		t.Errorf("%+v", s)
	}
	succeed(t, "check", layout+"hot", "--against", "dir:"+w.tree)
	if again := optimized(t, "--profile", w.file(t), base, layout+"again"); again.Descriptor.Digest != s.Descriptor.Digest {
		t.Error("the same profile gives another artifact")
	}
	// What was laid out is laid out anew from where it came from, so hot blobs do not pile up.
	w.touched.Entries = w.touched.Entries[:2]
	other := optimized(t, "--profile", w.file(t), layout+"hot", layout+"other")
	if direct := optimized(t, "--profile", w.file(t), base, layout+"direct"); direct.Descriptor.Digest != other.Descriptor.Digest {
		t.Error("an artifact that was laid out is laid out another way than the one that it came from")
	}
	succeed(t, "check", layout+"other", "--against", "dir:"+w.tree)
	// Digests are those of the blobs that versions share, whichever artifact they are taken from.
	identified := filepath.Join(w.dir, "identified")
	succeed(t, "profile", "apply", w.file(t), layout+"hot", "-o", identified)
	if out := succeed(t, "profile", "apply", identified, base); !strings.Contains(out, "same data") || strings.Contains(out, "other data") {
		t.Error(out)
	}

	_, a, err := artifact.Find(t.Context(), nil, oci.Ref{Kind: oci.Layout, Path: w.dir + "/l", Tag: "hot"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := a.Blobs[len(a.Blobs)-1]
	if last.Hot != last.Size || last.Hot != s.Hot || a.Base == "" {
		t.Errorf("%d of %d bytes are hot, made from %q", last.Hot, last.Size, a.Base)
	}
	for _, b := range a.Blobs {
		if b.Depth != 0 {
			t.Errorf("blob %s has depth %d: its data is scattered no further", b.ID, b.Depth)
		}
	}
}

// TestAnArtifactOfAnotherImageIsNoBase has an artifact claim that it was laid out from one of another image, which would be attached to that.
func TestAnArtifactOfAnotherImageIsNoBase(t *testing.T) {
	w := newWorkload(t)
	ref := oci.Ref{Kind: oci.Layout, Path: w.dir + "/l", Tag: "base"}
	succeed(t, "convert", "dir:"+w.tree, ref.String())
	place, base, err := artifact.Find(t.Context(), nil, ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		subject *ocispec.Descriptor
		same    bool
	}{{nil, true}, {&ocispec.Descriptor{Digest: digest.FromString("image")}, false}} {
		a := &artifact.Artifact{Subject: c.subject, Base: base.Descriptor.Digest}
		if got, err := converted(t.Context(), place, ref, a); err != nil || (got != a) != c.same {
			t.Errorf("of subject %v: %v, %v", c.subject, got.Name, err)
		}
	}
}

func TestConvertingWithAProfileIsConvertingAndOptimizing(t *testing.T) {
	w := newWorkload(t)
	layout := "oci:" + w.dir + "/l:"
	succeed(t, "convert", "dir:"+w.tree, layout+"base")
	s := optimized(t, "--profile", w.file(t), layout+"base", layout+"hot")
	made := convertJSON(t, "--profile", w.file(t), "dir:"+w.tree, layout+"both")
	if made.Descriptor.Digest != s.Descriptor.Digest || made.Optimized == nil || made.Optimized.Hot != s.Hot {
		t.Errorf("%+v, want %+v", made.Optimized, s)
	}
	succeed(t, "inspect", layout+"both")
}

func TestAProfileOfLittleUseIsRefusedOnDemand(t *testing.T) {
	w := newWorkload(t)
	base := "oci:" + w.dir + "/l:base"
	succeed(t, "convert", "dir:"+w.tree, base)
	for name, c := range map[string]struct {
		args    []string
		entries []profile.Entry
		status  int
		says    string
	}{
		"covers little":  {[]string{"--min-coverage", "99"}, w.touched.Entries, exitFailure, "covers too little"},
		"names nothing":  {nil, []profile.Entry{{Path: "/gone", Len: 4096}}, exitFailure, "nothing that the profile names"},
		"only inlined":   {nil, []profile.Entry{{Path: "/etc/conf", Len: 4096}}, exitFailure, "nothing that the profile names"},
		"tag of another": {[]string{"--platform", "x"}, w.touched.Entries, exitUsage, "platform"},
	} {
		w.touched.Entries = c.entries
		status, _, stderr := pagein(t, append([]string{"pagein", "optimize", "--profile", w.file(t), base, "oci:" + w.dir + "/l:hot"}, c.args...)...)
		if status != c.status || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: status %d: %s", name, status, stderr)
		}
	}
	for _, args := range [][]string{{base}, {"--profile", w.file(t), base}, {"--profile", w.file(t)}} {
		if status, _, stderr := pagein(t, append([]string{"pagein", "optimize"}, args...)...); status != exitUsage {
			t.Errorf("%q: status %d: %s", args, status, stderr)
		}
	}
}

// TestProfilesAreKeptWithTheirImage pushes two profiles of an image, and takes both.
func TestProfilesAreKeptWithTheirImage(t *testing.T) {
	srv := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true)))
	t.Cleanup(srv.Close)
	name, repo := platformsAt(t, strings.TrimPrefix(srv.URL, "http://"))
	image := name + ":v1"
	succeed(t, "convert", "--platform=linux/amd64", image)
	listed := succeed(t, "ls", "--platform=linux/amd64", image, "/")
	file, _, _ := strings.Cut(strings.TrimSpace(listed), "\n")
	w := newWorkload(t)
	if status, _, stderr := pagein(t, "pagein", "optimize", "--platform=linux/amd64", "--profile", "auto", image); status != exitFailure || !strings.Contains(stderr, "no profile is attached") {
		t.Errorf("status %d: %s", status, stderr)
	}
	var pushed []string
	for _, path := range []string{"/" + file, "/elsewhere"} {
		w.touched.Entries = []profile.Entry{{Path: path, Len: 4096}}
		pushed = append(pushed, strings.TrimSpace(succeed(t, "profile", "push", "--platform=linux/amd64", w.file(t), image)))
	}
	for ref, want := range map[string]int{image: 2, pushed[0]: 1} {
		p, err := profile.Read(strings.NewReader(succeed(t, "profile", "pull", "--platform=linux/amd64", ref)))
		if err != nil || len(p.Entries) != want || p.Runs != want || p.Subject == "" || p.Entries[0].Path == "/"+file && p.Entries[0].Digest == (profile.Digest{}) {
			t.Errorf("%s: %+v, %v", ref, p, err)
		}
	}
	if said := succeed(t, "optimize", "--platform=linux/amd64", "--profile", "auto", image); !strings.HasSuffix(said, "and pulled again: ctr images rm --sync "+image+"\n") {
		t.Errorf("what nodes make of it is not said: %s", said)
	}
	s := optimized(t, "--platform=linux/amd64", "--profile", "auto", image)
	if s.Coverage.Same == 0 || s.Coverage.Missing != 4096 {
		t.Errorf("%+v", s.Coverage)
	}
	// The new artifact is the one that is used.
	ref, err := oci.ParseRef(image)
	if err != nil {
		t.Fatal(err)
	}
	a, err := artifact.Place{Repository: repo}.Find(t.Context(), ref, &ocispec.Platform{OS: "linux", Architecture: "amd64"}, nil)
	if err != nil || a.Descriptor.Digest != s.Descriptor.Digest || a.Generation != 1 {
		t.Errorf("%+v, %v; want %s", a, err, s.Descriptor.Digest)
	}
	if converted := convertJSON(t, "--platform=linux/amd64", "--profile", "auto", image); converted.Optimized == nil {
		t.Errorf("%+v", converted)
	}
}

func TestProfilesAreShownMergedAndCompared(t *testing.T) {
	w := newWorkload(t)
	a := w.file(t)
	w.dir = t.TempDir()
	w.touched.Entries = append(w.touched.Entries[:1:1], profile.Entry{Path: "/\x1b[31m", Len: 4096})
	b := w.file(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"show":        {[]string{"show", a}, "touched  248 KiB of 5 files"},
		"escapes":     {[]string{"show", b}, `\x1b[31m`},
		"json":        {[]string{"show", "--json", a}, `"path": "/lib/a.so"`},
		"merge":       {[]string{"merge", a, b, "--min=2"}, "pagein profile 1\nruns 2\n0 100 3 r 2 - 0 \"/bin/prog\"\n"},
		"diff":        {[]string{"diff", a, b}, "only in the first   236 KiB"},
		"diff json":   {[]string{"diff", "--json", a, b}, `"both_bytes": 12288`},
		"layout":      {[]string{"push", a, "oci:" + w.dir + "/p:x"}, "oci:" + w.dir + "/p:x"},
		"from layout": {[]string{"show", "oci:" + w.dir + "/p:x"}, "248 KiB"},
	} {
		if name == "from layout" {
			succeed(t, "profile", "push", a, "oci:"+w.dir+"/p:x")
		}
		if out := succeed(t, append([]string{"profile"}, c.args...)...); !strings.Contains(out, c.says) || strings.Contains(out, "\x1b") {
			t.Errorf("%s: %s", name, out)
		}
	}
	for note, args := range map[string][]string{"about 120 KiB": {"merge", a, b}, "": {"merge", a, b, "--min=2"}} {
		if status, _, stderr := pagein(t, append([]string{"pagein", "profile"}, args...)...); status != 0 || !strings.Contains(stderr, note) || note == "" && stderr != "" {
			t.Errorf("%q: status %d: %s", args, status, stderr)
		}
	}
	for _, args := range [][]string{{}, {"none"}, {"show"}, {"diff", a}, {"push", a, "oci:" + w.dir + "/p"}} {
		if status, _, stderr := pagein(t, append([]string{"pagein", "profile"}, args...)...); status != exitUsage {
			t.Errorf("%q: status %d: %s", args, status, stderr)
		}
	}
}
