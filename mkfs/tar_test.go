package mkfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"github.com/pagein/pagein/internal/tartest"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/treetest"

	"github.com/pagein/pagein/internal/erofstest"
)

func run(t testing.TB, stdin io.Reader, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(require.Tool(t, name), args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// extract lets GNU tar unpack a stream.
func extract(t testing.TB, stream []byte) string {
	t.Helper()
	dir := t.TempDir()
	run(t, bytes.NewReader(stream), "tar", "-x", "-p", "-C", dir, "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*", "-f", "-")
	return dir
}

// mountTar makes an image of a tar stream and mounts it.
func mountTar(t testing.TB, stream []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.tar")
	if err := os.WriteFile(file, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	image, stats := makeImage(t, tarOf(file), ImageOptions{})
	accepted(t, image, "", stats)
	return erofstest.Mount(t, image)
}

func TestTarGivesWhatGNUTarExtracts(t *testing.T) {
	require.Root(t)
	source := t.TempDir()
	treetest.Random(t, source, 42)
	many := filepath.Join(source, "many-runs")
	f, err := os.Create(many)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(60) { // more runs than a header and one extension hold
		if _, err := f.WriteAt([]byte("x"), i*40_000); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string][]string{
		"gnu":             {"--format=gnu"},
		"gnu, sparse":     {"--format=gnu", "--sparse"},
		"pax":             {"--format=pax"},
		"pax, xattrs":     {"--format=pax", "--xattrs", "--xattrs-include=*"},
		"pax, sparse 0.0": {"--format=pax", "--sparse", "--sparse-version=0.0"},
		"pax, sparse 0.1": {"--format=pax", "--sparse", "--sparse-version=0.1"},
		"pax, sparse 1.0": {"--format=pax", "--sparse", "--sparse-version=1.0", "--xattrs", "--xattrs-include=*"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"-c", "-C", source, "--numeric-owner", "-f", "-"}, options...)
			stream := run(t, nil, "tar", append(args, ".")...)
			treetest.Compare(t, extract(t, stream), mountTar(t, stream))
		})
	}
}

func TestACLsOfGNUTarSurvive(t *testing.T) {
	require.Root(t)
	source := t.TempDir()
	path := filepath.Join(source, "f")
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	const name = "system.posix_acl_access"
	want := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x39\x30\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff")
	err := unix.Setxattr(path, name, want, 0)
	require.Feature(t, err == nil, "POSIX ACLs in the file system of temporary files")
	stream := run(t, nil, "tar", "-c", "-C", source, "--format=pax", "--acls", "--numeric-owner", "-f", "-", "f")
	tree, err := applied(stream, false)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if x := tree.Root().Entries[0].Inode.Xattrs; len(x) != 1 || x[0].Name != name || !bytes.Equal(x[0].Value, want) {
		t.Errorf("got %q, want %q", x, want)
	}
}

func TestHugeSparseMemberCostsOnlyItsData(t *testing.T) {
	require.Root(t)
	source := t.TempDir()
	f, err := os.Create(filepath.Join(source, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 3<<40 + 5 // more than an octal field holds, and more blocks than its index may have entries
	at := map[int64]string{0: "begin", 5<<30 + 77: "middle", size - 4: "last"}
	for off, data := range at {
		if _, err := f.WriteAt([]byte(data), off); err != nil {
			t.Fatal(err)
		}
	}
	for _, options := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=1.0"}} {
		stream := run(t, nil, "tar", append(options, "-c", "-C", source, "--sparse", "-f", "-", ".")...)
		mounted, err := os.Open(filepath.Join(mountTar(t, stream), "huge"))
		if err != nil {
			t.Fatal(err)
		}
		defer mounted.Close()
		if info, err := mounted.Stat(); err != nil || info.Size() != size {
			t.Fatalf("size %d, want %d (%v)", info.Size(), int64(size), err)
		}
		for off, data := range at {
			want := make([]byte, min(9000, size-max(off-4000, 0)))
			got := bytes.Clone(want)
			copy(want[off-max(off-4000, 0):], data)
			if _, err := mounted.ReadAt(got, max(off-4000, 0)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v: content around %d differs (%v)", options, off, err)
			}
		}
	}
}

func TestStandardLibraryTarsGiveWhatGNUTarExtracts(t *testing.T) {
	require.Root(t)
	long := strings.Repeat("long-name/", 30) + strings.Repeat("n", 200)
	stream := tartest.Archive(t,
		tartest.Directory("./", 0o750),
		tartest.Directory("d/", 0o7777),
		tartest.File("d/f", "old"),
		tartest.File("d/f", "the last one wins"),
		tartest.Directory("long-name/", 0o755),
		tartest.File(long, strings.Repeat("x", 10_000)),
		tartest.Symlink("d/l", strings.Repeat("t", 300)),
		tartest.HardLink("d/h", "d/f"),
		tartest.HardLink("h2", "./"+long),
		tartest.Member{Header: tar.Header{Typeflag: tar.TypeReg, Name: "pax", Mode: 0o4755, Uid: 3_000_000, Gid: 70_000, Size: 1, Format: tar.FormatPAX,
			ModTime: time.Unix(-2, 123456789), PAXRecords: map[string]string{"SCHILY.xattr.user.bin": "\x01\n=\xff", "SCHILY.xattr.user.x": "y"}}, Data: "1"},
		tartest.Member{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3, ModTime: time.Unix(9, 0)}},
		tartest.Member{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Mode: 0o660, Devmajor: 259, Devminor: 70_000, ModTime: time.Unix(9, 0)}},
		tartest.Member{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600, ModTime: time.Unix(9, 0)}},
	)
	// Parents that no member describes get the time of extraction from GNU tar.
	treetest.CompareWith(t, extract(t, stream), mountTar(t, stream), treetest.Options{IgnoreDirTimes: true})
}

func TestCompressedTarsAreRecognized(t *testing.T) {
	plain := tartest.Archive(t, tartest.File("a/b", strings.Repeat("data", 5000)))
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	zst := enc.EncodeAll(plain, nil)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}, zst...)
	want := listing(t, plain)
	for name, stream := range map[string][]byte{"gzip": gz.Bytes(), "two gzip members": append(gz.Bytes(), gzipped(t, nil)...), "zstd": zst, "skippable": skippable} {
		t.Run(name, func(t *testing.T) {
			if got := listing(t, stream); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			for _, cut := range []int{len(stream) / 2, len(stream) - 40, len(stream) - 1} {
				if name == "two gzip members" && cut == len(stream)-40 {
					continue // may be just behind the first one
				}
				if _, err := applied(stream[:cut], false); err == nil {
					t.Errorf("cut off at %d of %d: no error", cut, len(stream))
				}
			}
		})
	}
}

func TestATarIsNotTakenForWhatItsFirstNameBeginsWith(t *testing.T) {
	for _, name := range []string{"BZh", "BZhistory/1", "\x04\x22\x4d\x18"} {
		want := name + ` -rw-r--r-- "x"`
		if name == "BZhistory/1" {
			want = `BZhistory drwxr-xr-x, BZhistory/1 -rw-r--r-- "x"`
		}
		if got := strings.Join(listing(t, tartest.Archive(t, tartest.File(name, "x"))), ", "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// applied builds a finished tree of streams, in memory.
func applied(stream []byte, layers bool, more ...[]byte) (*Tree, error) {
	t, err := New(Options{InlineLimit: DefaultInlineLimit})
	if err != nil {
		return nil, err
	}
	sink := &memorySink{}
	if !layers {
		err = t.AddTar(context.Background(), bytes.NewReader(stream), sink)
	} else {
		for _, s := range append([][]byte{stream}, more...) {
			if err = t.ApplyLayer(context.Background(), bytes.NewReader(s), sink); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = t.Finish(Overrides{})
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// memorySink keeps data in memory. A Ref is an index.
type memorySink struct{ data [][]byte }

func (s *memorySink) Append(r io.Reader, size int64) (Ref, error) {
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	s.data = append(s.data, b)
	return Ref(len(s.data) - 1), err
}

func (s *memorySink) Place(r Ref) (uint16, uint64) { return 1, uint64(r) }

// listing describes a tree by one line for each path: type, permissions and, for files, the content.
func listing(t testing.TB, stream []byte, layers ...[]byte) []string {
	t.Helper()
	tree, err := applied(stream, len(layers) > 0, layers...)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	return describe(t, tree)
}

func TestRefusedTarsNameTheMemberAndTheReason(t *testing.T) {
	badSum := tartest.Archive(t, tartest.File("a", "data"))
	badSum[0] = 'b'
	odd := tartest.Archive(t, tartest.File("a", "data"))
	copy(odd[512+512:], "not a header")
	tests := map[string]struct {
		stream []byte
		want   string
	}{
		"dotdot":              {tartest.Archive(t, tartest.File("a/../../etc/passwd", "x")), `member "a/../../etc/passwd": ".." in a name is refused`},
		"dotdot at the end":   {tartest.Archive(t, tartest.Directory("a/..", 0o755)), `".." in a name`},
		"link to dotdot":      {tartest.Archive(t, tartest.HardLink("h", "../../etc/passwd")), `hard link to "../../etc/passwd": ".."`},
		"link to nothing":     {tartest.Archive(t, tartest.HardLink("h", "gone")), `hard link to "gone": "gone": no such file`},
		"link to directory":   {tartest.Archive(t, tartest.Directory("d", 0o755), tartest.HardLink("h", "d")), "it is a directory"},
		"below a file":        {tartest.Archive(t, tartest.File("f", "x"), tartest.File("f/g", "y")), `member "f/g": "f": not a directory`},
		"symlink loop":        {tartest.Archive(t, tartest.Symlink("a", "b"), tartest.Symlink("b", "a"), tartest.File("a/f", "x")), "too many levels of symbolic links"},
		"name too long":       {tartest.Archive(t, tartest.File(strings.Repeat("n", 256), "x")), "too long"},
		"path too long":       {tartest.Archive(t, tartest.File(strings.Repeat("d/", 2048)+"f", "x")), "the name has 4097 bytes"},
		"link to a long path": {tartest.Archive(t, tartest.HardLink("h", strings.Repeat("d/", 2048)+"f")), "the name has 4097 bytes"},
		"too deep": {tartest.Archive(t, tartest.Directory(strings.Repeat("d/", 2000), 0o755), tartest.Symlink("l", strings.Repeat("d/", 2000)),
			tartest.File("l/"+strings.Repeat("e/", 100)+"f", "x")), "more than 2048 directories lie in each other"},
		"nothing":              {nil, "no member and no end marker"},
		"truncated data":       {tartest.Archive(t, tartest.File("a", strings.Repeat("x", 2000)))[:1500], "unexpected EOF"},
		"truncated header":     {tartest.Archive(t, tartest.File("a", "x"), tartest.File("b", "x"))[:1300], "truncated"},
		"wrong checksum":       {badSum, "checksum is wrong"},
		"garbage after member": {odd, "checksum is wrong"},
		"xz":                   {[]byte("\xfd7zXZ\x00 and so on"), "compressed with xz"},
		"broken gzip":          {[]byte{0x1f, 0x8b, 8, 0, 1}, "gzip"},
		"broken zstd":          {[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00}, "unexpected EOF"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tree, err := applied(tc.stream, false)
			if err == nil {
				t.Fatalf("no error, tree %q", describe(t, tree))
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func TestDirectoriesThatNoMemberDescribesAreBounded(t *testing.T) {
	var members []tartest.Member
	for i := range maxImplied/2000 + 2 {
		members = append(members, tartest.File(fmt.Sprint(i, strings.Repeat("/d", 2000), "/f"), ""))
	}
	if _, err := applied(tartest.Archive(t, members...), false); err == nil || !strings.Contains(err.Error(), "directories are not described") {
		t.Errorf("error %v", err)
	}
}

func TestNoMemberLeavesTheTree(t *testing.T) {
	got := listing(t, tartest.Archive(t,
		tartest.Symlink("out", "/etc"),
		tartest.Symlink("up", "../../../tmp"),
		tartest.Directory("d", 0o700),
		tartest.Symlink("d/abs", "/d"),
		tartest.File("out/passwd", "mine"),
		tartest.File("up/x", "mine, too"),
		tartest.File("d/abs/y", "here"),
		tartest.File("/absolute", "stays"),
		tartest.HardLink("link", "out/passwd"),
	))
	want := []string{
		"d drwx------", "d/abs -> /d", `d/y -rw-r--r-- "here"`, "etc drwxr-xr-x", `etc/passwd -rw-r--r-- "mine"`,
		`absolute -rw-r--r-- "stays"`, `link = etc/passwd`, "out -> /etc", "tmp drwxr-xr-x", `tmp/x -rw-r--r-- "mine, too"`, "up -> ../../../tmp",
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDeviceNumbersSurvive(t *testing.T) {
	tree, err := applied(tartest.Archive(t, tartest.Member{Header: tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 4095, Devminor: 1<<20 - 1}}), false)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if n := tree.Root().Entries[0].Inode; uint64(n.Rdev) != unix.Mkdev(4095, 1<<20-1)&0xffffffff {
		t.Errorf("rdev %#x", n.Rdev)
	}
}
