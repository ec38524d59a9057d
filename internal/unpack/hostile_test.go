package unpack_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/unpack"
)

// memory is an io.WriterAt.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// image writes a tree that no file system would make.
func image(t *testing.T, root *erofs.Inode, inline []byte) *erofs.FS {
	t.Helper()
	var m memory
	stats, err := erofs.Write(&m, root, erofs.WriteOptions{InlineData: bytes.NewReader(inline)})
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(bytes.NewReader(m.b), stats.Size)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

func dir(entries ...erofs.Dirent) *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: entries}
}

func symlink(target string) *erofs.Inode {
	return &erofs.Inode{Mode: unix.S_IFLNK | 0o777, Target: target}
}

// TestNothingLeavesTheTarget has links that lead out of it, and everything that could follow them.
func TestNothingLeavesTheTarget(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	link := symlink(victim)
	link.Xattrs = []erofs.Xattr{{Name: "trusted.x", Value: []byte("1")}}
	link.UID, link.Mtime = 1234, 5
	fsys := image(t, dir(
		erofs.Dirent{Name: "a", Inode: symlink(outside)},
		erofs.Dirent{Name: "b", Inode: link},
		erofs.Dirent{Name: "c", Inode: link}, // a hard link of a symbolic link
		erofs.Dirent{Name: "d", Inode: dir(erofs.Dirent{Name: "e", Inode: link}, erofs.Dirent{Name: "up", Inode: symlink("../..")})},
	), nil)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := unpack.Dir(t.Context(), fsys, out, unpack.Options{}); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if !after.ModTime().Equal(before.ModTime()) || after.Mode() != before.Mode() || *ownerOf(after) != *ownerOf(before) {
		t.Errorf("the file outside is %+v, it was %+v", after, before)
	}
	if names, err := os.ReadDir(outside); err != nil || len(names) != 1 {
		t.Errorf("outside are %v: %v", names, err)
	}
	for _, path := range []string{"b", "c", "d/e"} {
		if target, err := os.Readlink(filepath.Join(out, path)); err != nil || target != victim {
			t.Errorf("%s leads to %q: %v", path, target, err)
		}
	}
}

type owner struct{ uid, gid, links int }

func ownerOf(info os.FileInfo) *owner {
	st, _ := info.Sys().(*syscall.Stat_t)
	return &owner{int(st.Uid), int(st.Gid), int(st.Nlink)}
}

func TestHugeFilesEndInErrorsNotInFullDisks(t *testing.T) {
	huge := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: 1 << 42}
	fsys := image(t, dir(erofs.Dirent{Name: "huge", Inode: huge}), nil)
	var out bytes.Buffer
	if _, err := unpack.Tar(t.Context(), fsys, &out, unpack.Options{}); err != nil || out.Len() > 1<<20 {
		t.Errorf("a hole of 4 TiB makes a tar of %d bytes: %v", out.Len(), err)
	}
	stats, err := unpack.Dir(t.Context(), fsys, filepath.Join(t.TempDir(), "out"), unpack.Options{})
	if stats.Bytes > 1<<20 {
		t.Errorf("%d bytes were written: %v", stats.Bytes, err)
	}
}

func TestDeepTreesKeepTheirHardLinks(t *testing.T) {
	file := &erofs.Inode{Mode: unix.S_IFREG | 0o644}
	name := strings.Repeat("n", 200)
	deep := dir(erofs.Dirent{Name: "file", Inode: file})
	for range 30 { // a path of 6000 bytes
		deep = dir(erofs.Dirent{Name: name, Inode: deep})
	}
	fsys := image(t, dir(erofs.Dirent{Name: "a", Inode: deep}, erofs.Dirent{Name: "link", Inode: file}), nil)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := unpack.Dir(t.Context(), fsys, out, unpack.Options{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(out, "link")); err != nil || ownerOf(info).links != 2 {
		t.Errorf("links are %+v: %v", info, err)
	}
}

// TestLongPathsOfHardLinksAreNotKept has 100 MB of paths, in an image of 1 MB.
func TestLongPathsOfHardLinksAreNotKept(t *testing.T) {
	deep := dir()
	for i := range 2000 {
		file := &erofs.Inode{Mode: unix.S_IFREG | 0o644}
		deep.Entries = append(deep.Entries, erofs.Dirent{Name: fmt.Sprint("a", i), Inode: file}, erofs.Dirent{Name: fmt.Sprint("b", i), Inode: file})
	}
	for range 200 {
		deep = dir(erofs.Dirent{Name: strings.Repeat("n", 250), Inode: deep})
	}
	fsys := image(t, deep, nil)
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, most := inUse(), int64(0)
	_, err := unpack.Tar(t.Context(), fsys, io.Discard, unpack.Options{Progress: func(s unpack.Stats) {
		if s.Names == 4200 {
			most = inUse()
		}
	}})
	if err != nil || most == 0 || most-before > 16<<20 {
		t.Errorf("%d bytes are in use: %v", most-before, err)
	}
}

// TestManyHolesAreStillSomethingThatReadersTake has more pieces of data than the map of a sparse member may list.
func TestManyHolesAreStillSomethingThatReadersTake(t *testing.T) {
	const pieces = 100_000
	file := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: 2 * pieces * erofs.BlockSize}
	for i := range int64(pieces) {
		file.Extents = append(file.Extents, erofs.Extent{Off: 2 * i * erofs.BlockSize, Len: erofs.BlockSize, Device: 1, Block: uint64(i)})
	}
	var m memory
	stats, err := erofs.Write(&m, dir(erofs.Dirent{Name: "f", Inode: file}), erofs.WriteOptions{Devices: []erofs.Device{{Tag: "data", Blocks: pieces}}})
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(bytes.NewReader(m.b), stats.Size, ones{})
	if err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := unpack.Tar(t.Context(), fsys, out, unpack.Options{})
		out.CloseWithError(err)
	}()
	r := tar.NewReader(in)
	for _, want := range []string{"./", "f"} {
		if h, err := r.Next(); err != nil || h.Name != want {
			t.Fatalf("%+v, %v", h, err)
		}
	}
	var b [2 * erofs.BlockSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil || b[0] != 1 || b[erofs.BlockSize-1] != 1 || b[erofs.BlockSize] != 0 {
		t.Errorf("the file begins with %v: %v", b, err)
	}
	if err := in.Close(); err != nil { // the rest takes long
		t.Error(err)
	}
	<-done
}

// ones is a device full of ones.
type ones struct{}

func (ones) ReadAt(b []byte, _ int64) (int, error) {
	for i := range b {
		b[i] = 1
	}
	return len(b), nil
}

func TestNoMemberLinksToOneThatIsLeftOut(t *testing.T) {
	socket := &erofs.Inode{Mode: unix.S_IFSOCK | 0o600}
	var out bytes.Buffer
	stats, err := unpack.Tar(t.Context(), image(t, dir(erofs.Dirent{Name: "a", Inode: socket}, erofs.Dirent{Name: "b", Inode: socket}), nil), &out, unpack.Options{})
	if err != nil || stats.Lost != 2 || stats.Names != 1 {
		t.Errorf("%+v, %v: want the root alone, and 2 lost", stats, err)
	}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || h.Name != "./" {
			t.Fatalf("%+v, %v", h, err)
		}
	}
}

func TestWhatTheFileSystemCannotKeepIsNotedOnce(t *testing.T) {
	require.Root(t)
	var entries []erofs.Dirent
	for _, name := range []string{"a", "b", "c"} {
		file := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Xattrs: []erofs.Xattr{{Name: "system.posix_acl_access", Value: []byte("no ACL")}}}
		entries = append(entries, erofs.Dirent{Name: name, Inode: file})
	}
	var said []string
	stats, err := unpack.Dir(t.Context(), image(t, dir(entries...), nil), filepath.Join(t.TempDir(), "out"), unpack.Options{Note: notes(&said)})
	if err != nil || stats.Lost != 3 || len(said) != 1 || !strings.Contains(said[0], `"a"`) {
		t.Errorf("%d lost, %q: %v", stats.Lost, said, err)
	}
}

func TestTimesBeforeAndAfterAreExact(t *testing.T) {
	require.Tool(t, "tar")
	times := []struct {
		sec  int64
		nsec uint32
	}{{0, 0}, {-1, 500_000_000}, {-2, 1}, {-1, 0}, {math.MaxInt32 + 1, 999_999_999}}
	var entries []erofs.Dirent
	for i, at := range times {
		file := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Mtime: at.sec, MtimeNsec: at.nsec}
		entries = append(entries, erofs.Dirent{Name: string(rune('a' + i)), Inode: file})
	}
	var out bytes.Buffer
	if _, err := unpack.Tar(t.Context(), image(t, dir(entries...), nil), &out, unpack.Options{}); err != nil {
		t.Fatal(err)
	}
	got := untar(t, out.Bytes())
	for i, at := range times {
		info, err := os.Stat(filepath.Join(got, string(rune('a'+i))))
		if err != nil || info.ModTime().Unix() != at.sec || info.ModTime().Nanosecond() != int(at.nsec) {
			t.Errorf("time %v becomes %v: %v", at, info.ModTime(), err)
		}
	}
}
