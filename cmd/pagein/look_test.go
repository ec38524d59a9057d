package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"
)

// oddTree is a directory with a bit of everything that ls can show.
func oddTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(name, data string, mode os.FileMode) {
		must(os.WriteFile(filepath.Join(dir, name), []byte(data), mode))
		must(os.Chmod(filepath.Join(dir, name), mode))
	}
	must(os.MkdirAll(filepath.Join(dir, "etc/deep"), 0o755))
	file("etc/passwd", "root:x:0:0::/:\nlisa:x:1000:1000::/:\n", 0o644)
	file("etc/group", "root:x:0:\nstaff:x:50:\n", 0o644)
	file("etc/deep/.hidden", strings.Repeat("data ", 100_000), 0o600)
	file("etc/deep/new\nline", "", 0o755|os.ModeSetuid)
	must(os.Link(filepath.Join(dir, "etc/passwd"), filepath.Join(dir, "etc/deep/hard")))
	must(os.Symlink("etc/deep", filepath.Join(dir, "dirlink")))
	must(os.Symlink("/etc/../etc/passwd", filepath.Join(dir, "filelink")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	must(unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	must(os.Chown(filepath.Join(dir, "etc/group"), 1000, 50))
	must(unix.Mknod(filepath.Join(dir, "device"), unix.S_IFBLK|0o660, int(unix.Mkdev(8, 300))))
	must(os.Chmod(filepath.Join(dir, "device"), 0o660))
	must(unix.Lsetxattr(filepath.Join(dir, "etc/group"), "user.kind", []byte("odd"), 0))
	for _, name := range []string{"etc/deep/hard", "etc/group", "device", "dirlink"} {
		at := []unix.Timespec{{Sec: 1_000_000_000}, {Sec: 1_000_000_000, Nsec: 5}}
		must(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), at, unix.AT_SYMLINK_NOFOLLOW))
	}
	return dir
}

// artifactOf converts a directory into a layout and returns the reference.
func artifactOf(t *testing.T, dir string) string {
	t.Helper()
	ref := "oci:" + filepath.Join(t.TempDir(), "layout") + ":v1"
	convertJSON(t, "dir:"+dir, ref)
	return ref
}

// imageOf makes a plain EROFS image of a directory with a data device and returns the reference.
func imageOf(t *testing.T, dir string) string {
	t.Helper()
	out := t.TempDir()
	if status, _, stderr := pagein(t, "pagein", "mkfs", "--quiet", "--blobdev", out+"/data", out+"/meta", dir); status != exitSuccess {
		t.Fatal(stderr)
	}
	return "erofs:" + out + "/meta," + out + "/data"
}

// succeeds runs the program and returns what it prints.
func succeeds(t *testing.T, args ...string) string {
	t.Helper()
	status, stdout, stderr := pagein(t, append([]string{"pagein"}, args...)...)
	if status != exitSuccess || stderr != "" {
		t.Fatalf("%q: status %d: %s%s", args, status, stdout, stderr)
	}
	return stdout
}

// fails runs the program and returns its status and what it says.
func fails(t *testing.T, args ...string) (int, string) {
	t.Helper()
	status, stdout, stderr := pagein(t, append([]string{"pagein"}, args...)...)
	if status == exitSuccess {
		t.Fatalf("%q succeeds: %s%s", args, stdout, stderr)
	}
	return status, stdout + stderr
}

func TestListsLikeLs(t *testing.T) {
	require.Root(t)
	dir := oddTree(t)
	for _, ref := range []string{artifactOf(t, dir), imageOf(t, dir)} {
		for args, want := range map[string]string{
			"":               "device\ndirlink\netc\nfilelink\nloop\npipe\n",
			"dirlink/":       ".hidden\nhard\n\"new\\nline\"\n",
			"dirlink":        ".hidden\nhard\n\"new\\nline\"\n",
			"-d dirlink":     "dirlink\n",
			"loop":           "loop\n",
			"-a etc/deep":    ".\n..\n.hidden\nhard\n\"new\\nline\"\n",
			"-l device":      "brw-rw----  1 root root 8, 300 2001-09-09 01:46 device\n",
			"-ln etc/group":  "-rw-r--r--  1 1000 50 22 2001-09-09 01:46 etc/group\n",
			"-l etc/group":   "-rw-r--r--  1 lisa staff 22 2001-09-09 01:46 etc/group\n",
			"-l dirlink":     "lrwxrwxrwx  1 root root 8 2001-09-09 01:46 dirlink -> etc/deep\n",
			"-R etc":         "etc:\ndeep\ngroup\npasswd\n\netc/deep:\n.hidden\nhard\n\"new\\nline\"\n",
			"etc/group /etc": "etc/group\n\n/etc:\ndeep\ngroup\npasswd\n",
		} {
			if got := succeeds(t, append([]string{"ls", ref}, strings.Fields(args)...)...); got != want {
				t.Errorf("ls %s %s: got\n%swant\n%s", ref, args, got, want)
			}
		}
		got := succeeds(t, "ls", "-l", ref, "etc/deep")
		for _, want := range []string{"-rw-r--r--  2 root root     36 2001-09-09 01:46 hard\n", "-rwsr-xr-x  1 root root      0 ", "-rw-------  1 root root 500000 "} {
			if !strings.Contains(got, want) {
				t.Errorf("ls -l: got\n%swant a line with %q", got, want)
			}
		}
		var list []jsonFile
		if err := json.Unmarshal([]byte(succeeds(t, "ls", "--json", "-R", ref, "/")), &list); err != nil || len(list) != 12 {
			t.Fatalf("%d files: %v", len(list), err)
		}
		for _, f := range list {
			if f.Path == "/etc/group" && (string(f.Xattrs["user.kind"]) != "odd" || f.UID != 1000 || f.Time != "2001-09-09T01:46:40.000000005Z" || f.Mode != "0644") {
				t.Errorf("%+v", f)
			}
		}
		status, said := fails(t, "ls", ref, "etc/none", "pipe")
		if status != exitFailure || !strings.Contains(said, "etc/none") || !strings.Contains(said, "pipe\n") {
			t.Errorf("status %d: %s", status, said)
		}
	}
}

// TestJSONHoldsWhatItsStringsCannot has names that are no UTF-8, and times that time.Time refuses to encode.
func TestJSONHoldsWhatItsStringsCannot(t *testing.T) {
	dir := t.TempDir()
	image := func(name string, headers ...*tar.Header) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Format = tar.FormatPAX
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := errors.Join(w.Close(), os.WriteFile(path+".tar", b.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		succeeds(t, "mkfs", path, "tar:"+path+".tar")
		return "erofs:" + path
	}
	late := time.Date(20000, 1, 2, 3, 4, 5, 6, time.UTC)
	ref := image("a", &tar.Header{Name: "b\xff", Typeflag: tar.TypeSymlink, Linkname: "\xfe", ModTime: late}, &tar.Header{Name: "z", Typeflag: tar.TypeReg})
	var list []jsonFile
	said := succeeds(t, "ls", "--json", ref)
	if err := json.Unmarshal([]byte(said), &list); err != nil || len(list) != 2 {
		t.Fatalf("%v: %s", err, said)
	}
	if f := list[0]; f.QuotedPath != `"/b\xff"` || f.QuotedTarget != `"\xfe"` || f.Time != "20000-01-02T03:04:05.000000006Z" || list[1].QuotedPath != "" {
		t.Error(said)
	}
	var differences []jsonDifference
	_, said = fails(t, "diff", "--json", ref, image("b"))
	if err := json.Unmarshal([]byte(said), &differences); err != nil || len(differences) != 2 || differences[0].QuotedPath != `"b\xff"` || differences[1].QuotedPath != "" {
		t.Errorf("%v: %s", err, said)
	}
}

func TestCatFollowsLinksInsideTheImage(t *testing.T) {
	require.Root(t)
	dir := oddTree(t)
	const passwd = "root:x:0:0::/:\nlisa:x:1000:1000::/:\n"
	for _, ref := range []string{artifactOf(t, dir), imageOf(t, dir)} {
		if got := succeeds(t, "cat", ref, "filelink", "/dirlink/../../../etc/deep/hard", "etc/deep/.hidden"); got != passwd+passwd+strings.Repeat("data ", 100_000) {
			t.Errorf("got %d bytes: %.80q", len(got), got)
		}
		for _, c := range []struct{ path, says string }{{"etc", "is a directory"}, {"pipe", "no regular file"}, {"loop", "too many"}, {"none", "not exist"}} {
			status, said := fails(t, "cat", ref, c.path, "filelink")
			if status != exitFailure || !strings.Contains(said, c.path+": ") || !strings.Contains(said, c.says) || !strings.Contains(said, passwd) {
				t.Errorf("%s: status %d: %s", c.path, status, said)
			}
		}
	}
}

// failingWriter is a full disk.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestCatStopsWhenNobodyTakesItsOutput(t *testing.T) {
	require.Root(t)
	var errs strings.Builder
	ref := artifactOf(t, oddTree(t))
	if status := run(t.Context(), []string{"pagein", "cat", ref, "filelink", "filelink"}, failingWriter{}, &errs); status != exitFailure || strings.Count(errs.String(), "disk full") != 1 {
		t.Errorf("status %d: %s", status, errs.String())
	}
}

func TestJSONListsFailOnce(t *testing.T) {
	l := &jsonList{w: failingWriter{}}
	if l.add("x") == nil || l.end() != nil {
		t.Error("want an error of the first write only")
	}
	if (&jsonList{w: failingWriter{}}).end() == nil {
		t.Error("an empty list that cannot be written is no error")
	}
}

func TestInspectShowsTheWholeArtifact(t *testing.T) {
	require.Root(t)
	ref := artifactOf(t, oddTree(t))
	var r inspection
	if err := json.Unmarshal([]byte(succeeds(t, "inspect", "--json", "--frames", ref)), &r); err != nil {
		t.Fatal(err)
	}
	b := r.Blobs[0]
	total := 0
	for _, f := range b.List {
		total += f.Size
	}
	if r.Artifact == nil || len(r.Blobs) != 1 || int64(total) != b.Size || b.Frames != len(b.List) || b.Stored == 0 || b.Codecs["zstd"] == 0 ||
		r.Image.Inodes != 12 || r.Artifact.Plain != b.Size+r.Image.Size {
		t.Errorf("%+v", r)
	}
	text := succeeds(t, "inspect", ref)
	for _, want := range []string{r.Artifact.Digest, r.Image.Digest, r.Image.UUID, b.ID, b.Map, b.Sources[0].Digest, "12 inodes", "CHUNKED_FILE"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if frames := succeeds(t, "inspect", "--frames", ref); !strings.Contains(frames, b.List[0].SHA256) {
		t.Errorf("no frame in\n%s", frames)
	}
	if text := succeeds(t, "inspect", imageOf(t, oddTree(t))); !strings.Contains(text, "device 1") {
		t.Errorf("no device in\n%s", text)
	}
}

func TestLookingRefusesWhatCannotBeMeant(t *testing.T) {
	for args, says := range map[string]string{
		"ls":                          "want REF",
		"cat oci:x":                   "want REF",
		"inspect":                     "want REF",
		"diff dir:x":                  "want A and B",
		"diff --ignore size,x a b":    `"x" cannot be ignored`,
		"export oci:x":                "want REF and DIR",
		"check":                       "want REF",
		"check oci:x --ignore mtime":  "--against",
		"check dir:x":                 "can only be what",
		"ls dir:x":                    "convert it first",
		"ls erofs:":                   "no path",
		"inspect --platform a oci:x":  "such as linux/amd64",
		"export --bogus oci:x y":      "bogus",
		"diff https://x/y dir:x":      "URL",
		"check oci:x --against ftp::": "parse reference",
		"diff dir:x ftp::":            "parse reference",
	} {
		status, said := fails(t, strings.Fields(args)...)
		if status != exitUsage || !strings.Contains(said, says) {
			t.Errorf("%s: status %d: %s", args, status, said)
		}
	}
}

// TestAttachedArtifactsAreFoundThroughTheirImage needs nothing but the image's name.
func TestAttachedArtifactsAreFoundThroughTheirImage(t *testing.T) {
	for name, referrers := range map[string]bool{"referrers API": true, "referrers tag": false} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers)))
			t.Cleanup(srv.Close)
			t.Setenv("DOCKER_CONFIG", t.TempDir())
			repo := strings.TrimPrefix(srv.URL, "http://") + "/app"
			src := convertible(t)
			pushTestImage(t, repo+":v1", src)

			status, said := fails(t, "ls", repo+":v1")
			if status != exitFailure || !strings.Contains(said, "not a pagein artifact") {
				t.Errorf("status %d: %s", status, said)
			}
			convertJSON(t, repo+":v1")
			if got := succeeds(t, "ls", repo+":v1"); got != "file\n" {
				t.Errorf("ls shows %q", got)
			}
			if got := succeeds(t, "cat", repo+":v1", "file"); got != strings.Repeat("content ", 50_000) {
				t.Errorf("cat shows %d bytes", len(got))
			}
			succeeds(t, "check", repo+":v1", "--against", repo+":v1")
			var r inspection
			if err := json.Unmarshal([]byte(succeeds(t, "inspect", "--json", repo+":v1")), &r); err != nil || r.Artifact.Subject == "" {
				t.Errorf("%+v: %v", r.Artifact, err)
			}
			out := filepath.Join(t.TempDir(), "out")
			succeeds(t, "export", "--quiet", repo+":v1", out)
			treetest.CompareWith(t, src, out, treetest.Options{IgnoreRoot: true})

			pushTestIndex(t, repo+":multi", src)
			if got := succeeds(t, "ls", repo+":multi"); got != "file\n" {
				t.Errorf("ls of an index shows %q", got)
			}
			if _, said := fails(t, "ls", "--platform", "linux/none", repo+":multi"); !strings.Contains(said, "no image for linux/none") {
				t.Error(said)
			}
			again := convertJSON(t, "--level", "best", repo+":v1") // another one
			if err := json.Unmarshal([]byte(succeeds(t, "inspect", "--json", repo+":v1")), &r); err != nil {
				t.Fatal(err)
			}
			// This registry lists referrers in no order.
			if !referrers && !strings.HasSuffix(again.Reference, r.Artifact.Digest) {
				t.Errorf("%s is found after %s was attached", r.Artifact.Digest, again.Reference)
			}
		})
	}
}
