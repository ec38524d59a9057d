package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/require"
)

// smallSource makes a directory with two equal files.
func smallSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("data", 5000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMkfsTakesOptionsLikeMkfsErofs(t *testing.T) {
	source := smallSource(t)
	device := filepath.Join(t.TempDir(), "device")
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	var first []byte
	for _, options := range [][]string{
		{"-T0", "-U" + uuid, "-Lname", "--all-root", "--quiet", "FILE", source},
		{"-T", "0", "-U", uuid, "-L", "name", "--all-root", "--quiet", "FILE", "dir:" + source},
		{"FILE", "--quiet", "--all-root", source, "-T=0", "--U=" + uuid, "-L=name"},
		{"--all-root", "-T0", "-U" + uuid, "--quiet", "-Lname", "--", "FILE", source},
	} {
		file := filepath.Join(t.TempDir(), "image")
		args := []string{"pagein", "mkfs"}
		for _, o := range options {
			if o == "FILE" {
				o = file
			}
			args = append(args, o)
		}
		status, stdout, stderr := pagein(t, args...)
		if status != exitSuccess || stdout != "" || stderr != "" {
			t.Fatalf("%q: status %d, %q, %q", options, status, stdout, stderr)
		}
		image, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = image
		}
		if string(image) != string(first) {
			t.Errorf("%q: another image", options)
		}
	}
	status, stdout, stderr := pagein(t, "mkfs.pagein", "--json", "--blobdev="+device, filepath.Join(t.TempDir(), "image"), source)
	var summary mkfsSummary
	if err := json.Unmarshal([]byte(stdout), &summary); err != nil || status != exitSuccess {
		t.Fatalf("status %d, %q, %q: %v", status, stdout, stderr, err)
	}
	if summary.Inodes != 3 || summary.Files != 2 || summary.Shared != 20_000 || summary.BlobSize != 20_480 || len(summary.BlobTag) != 64 {
		t.Errorf("summary %+v", summary)
	}
}

func TestMkfsReadsTars(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in.tar")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeTar(out, 3, 100); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"IMAGE", "tar:" + file}, {"--tar=f", "IMAGE", file}} {
		args[len(args)-2] = filepath.Join(t.TempDir(), "image")
		status, stdout, stderr := pagein(t, append([]string{"pagein", "mkfs"}, args...)...)
		if status != exitSuccess || !strings.Contains(stdout, "5 inodes") {
			t.Errorf("%q: status %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

func TestMkfsTurnsWhiteoutsIntoThoseOfOverlayfs(t *testing.T) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, name := range []string{"dir/.wh.gone", "dir/opaque/.wh..wh..opq", "dir/opaque/file"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	archive, file := filepath.Join(t.TempDir(), "tar"), filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(archive, layer.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := pagein(t, "pagein", "mkfs", "--quiet", "--tar", "--aufs", file, archive); status != exitSuccess {
		t.Fatal(stderr)
	}
	image, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	info, err := image.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(image, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	gone, err := fsys.Lstat("dir/gone")
	if err != nil || gone.Mode().Type() != fs.ModeDevice|fs.ModeCharDevice || gone.Sys().(*erofs.Stat).Rdev != 0 {
		t.Errorf("the whiteout is %v, %v", gone, err)
	}
	if xattrs, err := fsys.Xattrs("dir/opaque"); err != nil || len(xattrs) != 1 || xattrs[0].Name != "trusted.overlay.opaque" || string(xattrs[0].Value) != "y" {
		t.Errorf("the opaque directory has %v, %v", xattrs, err)
	}
	if entries, err := fsys.ReadDir("dir/opaque"); err != nil || len(entries) != 1 {
		t.Errorf("it holds %v, %v", entries, err)
	}
}

func TestMkfsRefusesWhatCannotBeMeant(t *testing.T) {
	source, image := smallSource(t), filepath.Join(t.TempDir(), "image")
	for _, tc := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{image}, exitUsage, "want FILE and SOURCE"},
		{[]string{image, source, "more"}, exitUsage, "want FILE and SOURCE"},
		{[]string{"--tar=i", image, source}, exitUsage, "only f"},
		{[]string{"-Unonsense", image, source}, exitUsage, "no UUID"},
		{[]string{"-Tnonsense", image, source}, exitUsage, "-T"},
		{[]string{"-L1234567890123456", image, source}, exitUsage, "longer than 15"},
		{[]string{image, source, "-T"}, exitUsage, "SECONDS is missing"},
		{[]string{"--quiet=1", image, source}, exitUsage, "takes no value"},
		{[]string{"-b512", image, source}, exitUsage, "4096 bytes"},
		{[]string{"-b", "65536", image, source}, exitUsage, "4096 bytes"},
		{[]string{"-d10", image, source}, exitUsage, "0 to 9"},
		{[]string{"-xmany", image, source}, exitUsage, "no number"},
		{[]string{"-Esomething", image, source}, exitUsage, "no extended option"},
		{[]string{"--force-uid=-1", image, source}, exitUsage, "no number"},
		{[]string{"--gid-offset=4294967296", image, source}, exitUsage, "no number"},
		{[]string{"--exclude-regex=(", image, source}, exitUsage, "missing closing"},
		{[]string{"--exclude-path=a", "--tar", image, source}, exitUsage, "for directories"},
		{[]string{"--file-contexts=" + filepath.Join(source, "a"), image, source}, exitUsage, "line 1"},
		{[]string{"--chunksize=3000", image, source}, exitUsage, "power of two"},
		{[]string{"--aufs", image, source}, exitUsage, "--tar"},
		{[]string{"--mkfs-time", image, source}, exitUsage, "-T"},
		{[]string{"--clean=rvsp", image, source}, exitUsage, "only data"},
		{[]string{"--unknown", image, source}, exitUsage, "--unknown"},
		{[]string{image, filepath.Join(source, "gone")}, exitFailure, "gone: no such file"},
		{[]string{image, filepath.Join(source, "a")}, exitFailure, "not a directory"},
		{[]string{image, "tar:" + filepath.Join(source, "a")}, exitFailure, "not a tar header"},
		{[]string{filepath.Join(source, "gone", "image"), source}, exitFailure, "no such file"},
		{[]string{source, source}, exitFailure, "no regular file"},
	} {
		status, stdout, stderr := pagein(t, append([]string{"pagein", "mkfs"}, tc.args...)...)
		if status != tc.status || stdout != "" || !strings.Contains(stderr, tc.want) {
			t.Errorf("%q: status %d, %q, %q", tc.args, status, stdout, stderr)
		}
	}
	if _, err := os.Lstat(image); err == nil {
		t.Error("an image was left behind")
	}
}

// writeTar writes so many files of a size, all different, in directories of 1000.
func writeTar(w io.Writer, files, size int) error {
	buffered := bufio.NewWriter(w)
	tw := tar.NewWriter(buffered)
	for i := range files {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("directory-%d/file-%d", i/1000, i), Mode: 0o644, Size: int64(size)}); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(tw, "%-*d", size, i); err != nil {
			return err
		}
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

func TestMkfsOf100000FilesStaysBelow128MiB(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 100,000 files")
	}
	const files, size, limit = 100_000, 700, 128 << 10 // KiB
	dir := t.TempDir()
	binary := filepath.Join(dir, "pagein")
	if out, err := exec.Command(require.Tool(t, "go"), "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	// In memory the files are made in a second; on a busy disk they take a minute.
	if err := unix.Mount("tmpfs", source, "tmpfs", 0, "size=1g"); err == nil {
		t.Cleanup(func() {
			if err := unix.Unmount(source, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range files {
		sub := filepath.Join(source, fmt.Sprint("directory-", i/1000))
		if i%1000 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("file-", i)), fmt.Appendf(nil, "%-*d", size, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, cmd := range map[string]*exec.Cmd{
		"directory":                    exec.Command(binary, "mkfs", "--quiet", filepath.Join(dir, "1"), source),
		"directory, separate device":   exec.Command(binary, "mkfs", "--quiet", "--blobdev="+filepath.Join(dir, "2b"), filepath.Join(dir, "2"), source),
		"tar on standard input":        exec.Command(binary, "mkfs", "--quiet", filepath.Join(dir, "3"), "tar:-"),
		"tar, data on separate device": exec.Command(binary, "mkfs", "--quiet", "--blobdev="+filepath.Join(dir, "4b"), filepath.Join(dir, "4"), "tar:-"),
	} {
		t.Run(name, func(t *testing.T) {
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "tar") {
				if err := writeTar(stdin, files, size); err != nil {
					t.Error(err)
				}
			}
			if err := stdin.Close(); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
			t.Logf("peak memory %d MiB", rss>>10)
			if rss > limit {
				t.Errorf("peak memory %d KiB, want at most %d", rss, limit)
			}
		})
	}
}

func TestPathsThatExcludeNothingAreNoted(t *testing.T) {
	source := convertible(t)
	status, _, said := pagein(t, "pagein", "mkfs", "--exclude-path=/file/", "--exclude-path=fil", filepath.Join(t.TempDir(), "image"), source)
	if status != exitSuccess || strings.Count(said, "note:") != 1 || !strings.Contains(said, "--exclude-path=fil: "+source+" has no such path") {
		t.Errorf("status %d, %s", status, said)
	}
}
