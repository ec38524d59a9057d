package mkfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/tartest"
	"github.com/pagein/pagein/internal/treetest"
)

func TestSameSourceGivesSameBytesWhateverTheProcessors(t *testing.T) {
	source := t.TempDir()
	treetest.Random(t, source, 5)
	stream := run(t, nil, "tar", "-c", "-C", source, "--sparse", "--format=pax", "-f", "-", ".")
	tarFile := filepath.Join(t.TempDir(), "in.tar")
	if err := os.WriteFile(tarFile, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for name, src := range map[string]Source{"directory": dirOf(source), "tar": tarOf(tarFile)} {
		for _, separate := range []bool{false, true} {
			var first [][]byte
			for _, procs := range []int{1, 2, 7, 2} {
				runtime.GOMAXPROCS(procs)
				o, device := ImageOptions{}, filepath.Join(t.TempDir(), "data")
				if separate {
					o.BlobDev = device
				}
				path, _ := makeImage(t, src, o)
				files := [][]byte{readAll(t, path)}
				if separate {
					files = append(files, readAll(t, device))
				}
				if first == nil {
					first = files
				}
				if !slices.EqualFunc(files, first, bytes.Equal) {
					t.Errorf("%s, separate device %v: other bytes with %d processors", name, separate, procs)
				}
			}
		}
	}
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOverridesApplyToAllFiles(t *testing.T) {
	require.Root(t)
	source := t.TempDir()
	treetest.Random(t, source, 6)
	root, mtime, uuid := uint32(0), int64(1234567), [16]byte{1, 2, 3}
	image, stats := makeImage(t, dirOf(source), ImageOptions{Overrides: Overrides{UID: &root, GID: &root, Mtime: &mtime}, UUID: &uuid, Label: "label"})
	if stats.UUID != uuid {
		t.Errorf("UUID %x", stats.UUID)
	}
	raw := readAll(t, image)
	if !bytes.Equal(raw[1024+48:1024+64], uuid[:]) || !bytes.HasPrefix(raw[1024+64:], []byte("label\x00")) {
		t.Errorf("superblock has UUID and label %q", raw[1024+48:1024+80])
	}
	err := filepath.WalkDir(erofstest.Mount(t, image), func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if st.Uid != 0 || st.Gid != 0 || st.Mtim != (unix.Timespec{Sec: mtime}) {
			t.Errorf("%q: owner %d:%d, time %v", path, st.Uid, st.Gid, st.Mtim)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEqualFilesShareTheirBlocks(t *testing.T) {
	source := t.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: above what is read into memory
	for name, b := range map[string][]byte{"a": data, "b": data, "c": data[:20_000], "d": data[:20_000], "e": append(bytes.Clone(data[1:]), '!')} {
		if err := os.WriteFile(filepath.Join(source, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, stats := makeImage(t, dirOf(source), ImageOptions{})
	if want := int64(len(data) + 20_000); stats.Data.Shared != want {
		t.Errorf("%d bytes shared, want %d", stats.Data.Shared, want)
	}
	if stats.Image.Size > int64(2*len(data)+32<<10) {
		t.Errorf("image of %d bytes", stats.Image.Size)
	}
}

func TestFailureLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path, device := filepath.Join(dir, "image"), filepath.Join(dir, "device")
	for _, p := range []string{path, device} {
		if err := os.WriteFile(p, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cancelled, cancel := context.WithCancel(context.Background())
	boom := errors.New("boom")
	for name, source := range map[string]Source{
		"error": func(_ context.Context, _ *Tree, s Sink) error {
			_, err := s.Append(strings.NewReader(strings.Repeat("x", 3<<20)), 3<<20)
			return errors.Join(err, boom)
		},
		"interrupt": func(ctx context.Context, t *Tree, s Sink) error {
			cancel()
			return t.AddTar(ctx, bytes.NewReader(make([]byte, 1024)), s)
		},
	} {
		_, err := WriteImage(cancelled, path, source, ImageOptions{BlobDev: device})
		if !errors.Is(err, boom) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || string(readAll(t, path)) != "old" || string(readAll(t, device)) != "old" {
		t.Errorf("left behind: %v", entries)
	}
}

func TestTheDataDeviceIsAnotherFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "old")
	if err := errors.Join(os.WriteFile(old, []byte("old"), 0o600), os.Symlink("old", filepath.Join(dir, "alias"))); err != nil {
		t.Fatal(err)
	}
	for image, device := range map[string]string{"new": "link/new", "link/new": "new", "old": "old", "alias": "link/old"} {
		image, device = filepath.Join(dir, image), filepath.Join(dir, device)
		_, err := WriteImage(context.Background(), image, dirOf(t.TempDir()), ImageOptions{BlobDev: device})
		if err == nil || !strings.Contains(err.Error(), "is the same file") {
			t.Errorf("%s with %s: %v", image, device, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 || string(readAll(t, old)) != "old" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestFullDiskIsAClearErrorAndLeavesNothing(t *testing.T) {
	require.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "big"), bytes.Repeat([]byte("x"), 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := WriteImage(context.Background(), filepath.Join(dir, "image"), dirOf(source), ImageOptions{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), filepath.Join(dir, "image")) {
		t.Errorf("error %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestOutputInsideTheSourceIsLeftOut(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(source, "image")
	var images [][]byte
	for i := range 2 {
		notes := 0
		times := make([]unix.Timespec, 2)
		if err := unix.UtimesNano(source, times); err != nil {
			t.Fatal(err)
		}
		zero := int64(0)
		_, err := WriteImage(context.Background(), path, dirOf(source), ImageOptions{Overrides: Overrides{Mtime: &zero}, Note: func(string) { notes++ }})
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && notes == 0 { // before, the output has no name that could be met
			t.Error("no note")
		}
		images = append(images, readAll(t, path))
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("the second image contains the first")
	}
}

func TestChangesWhileReadingAreNoticed(t *testing.T) {
	for name, tc := range map[string]struct {
		size   int64
		sparse bool // its first byte is data, the rest is a hole
		change func(path string) error
		want   error
	}{
		"small sparse file shrinks to nothing":  {100_000, true, func(p string) error { return os.Truncate(p, 0) }, errShrank},
		"small sparse file shrinks to its data": {100_000, true, func(p string) error { return os.Truncate(p, 1) }, errShrank},
		"large sparse file shrinks in its hole": {2 << 20, true, func(p string) error { return os.Truncate(p, 1<<20) }, errShrank},
		"small file shrinks":                    {5000, false, func(p string) error { return os.Truncate(p, 100) }, errShrank},
		"large file shrinks":                    {12 << 20, false, func(p string) error { return os.Truncate(p, 100) }, errShrank},
		"file becomes pipe":                     {5000, false, func(p string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) }, errReplaced},
		"file becomes symlink":                  {5000, false, func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) }, unix.ELOOP},
		"parent becomes a link": {5000, false, func(p string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(p)), os.Symlink("/etc", filepath.Dir(p)))
		}, unix.ELOOP},
	} {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		for kind, sink := range map[string]Sink{"memory": &memorySink{}, "a file": NewFileSink(out, 0, 0)} {
			t.Run(name+", into "+kind, func(t *testing.T) {
				source := t.TempDir()
				path := filepath.Join(source, "dir", "passwd")
				if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				data := make([]byte, tc.size)
				if tc.sparse {
					data = data[:1]
				}
				if err := errors.Join(os.WriteFile(path, data, 0o600), os.Truncate(path, tc.size)); err != nil {
					t.Fatal(err)
				}
				err := loadAfter(t, source, func() error { return tc.change(path) }, sink)
				if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), "passwd") {
					t.Errorf("error %v, want %v", err, tc.want)
				}
				if left := openBelow(t, source); left != 0 {
					t.Errorf("%d files are still open", left)
				}
			})
		}
	}
}

// loadAfter reads a directory into a sink, whose files change between the walk and the reading.
func loadAfter(t *testing.T, source string, change func() error, sink Sink) (err error) {
	t.Helper()
	tree, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	o, err := newOpener(source)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	root, err := tree.walker(o).walk(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	files, sizes := tree.gather(root)
	if err := change(); err != nil {
		t.Fatal(err)
	}
	return tree.loadFiles(context.Background(), o, files, sizes, sink)
}

// openBelow counts the descriptors of this process that lead to files below dir.
func openBelow(t *testing.T, dir string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, dir+"/") {
			n++
		}
	}
	return n
}

func TestSparseLayoutsAreBoundedAndCoverTheData(t *testing.T) {
	for _, tc := range []struct {
		size int64
		data []span
		want []span
	}{
		{10_000, []span{{0, 1}}, []span{{0, 4096}}},
		{10_000, []span{{9000, 1000}}, []span{{8192, 1808}}},
		{10_000, []span{{0, 1}, {4097, 2}, {9000, 0}}, []span{{0, 8192}}},
		{100_000, []span{{5000, 10}, {50_000, 10_000}}, []span{{4096, 4096}, {49152, 12288}}},
		{1 << 40, []span{{5 << 22, 1}, {6 << 22, 1}, {9<<22 + 5, 1}}, []span{{5 << 22, 2 << 22}, {9 << 22, 1 << 22}}},
	} {
		got := sparse(tc.size, tc.data)
		if !slices.Equal(got.spans, tc.want) {
			t.Errorf("%d bytes, %v: got %v, want %v", tc.size, tc.data, got.spans, tc.want)
		}
		// The bytes of the widened spans are the data at its place and zeros around it.
		if tc.size > 1<<20 {
			continue
		}
		plain := make([]byte, tc.size)
		var packed []byte
		for i, s := range tc.data {
			for j := range s.len {
				plain[s.off+j] = byte(i + 1)
				packed = append(packed, byte(i+1))
			}
		}
		all, err := io.ReadAll(&widened{r: iotest.OneByteReader(bytes.NewReader(packed)), data: slices.Clone(tc.data), spans: slices.Clone(got.spans)})
		var want []byte
		for _, s := range got.spans {
			want = append(want, plain[s.off:s.off+s.len]...)
		}
		if err != nil || !bytes.Equal(all, want) {
			t.Errorf("%d bytes, %v: wrong content (%v)", tc.size, tc.data, err)
		}
	}
}

func TestSpoolGivesBackWhatItTook(t *testing.T) {
	s := spool{dir: t.TempDir()}
	defer s.close()
	var want []byte
	for i := range 8000 {
		data := bytes.Repeat([]byte{byte(i)}, i*7%9000)
		off, err := s.append(data)
		if err != nil || off != int64(len(want)) {
			t.Fatalf("append %d: %d, %v", i, off, err)
		}
		want = append(want, data...)
	}
	if len(want) < spoolMemory {
		t.Fatal("the file was not needed")
	}
	got := make([]byte, len(want))
	for at, n := 0, 1; at < len(got); at, n = at+n, min(n*3, 1<<20) {
		if _, err := s.ReadAt(got[at:min(at+n, len(got))], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes come back")
	}
	if n, err := s.ReadAt(make([]byte, 10), int64(len(want)-4)); n != 4 || err != io.EOF {
		t.Errorf("read over the end: %d, %v", n, err)
	}
}

func TestOptionsOutsideTheirRangeAreRefused(t *testing.T) {
	for _, o := range []Options{{InlineLimit: -1}, {InlineLimit: erofs.BlockSize}, {TailLimit: erofs.BlockSize}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func TestTreeTakesOneSourceOrLayers(t *testing.T) {
	empty := func() io.Reader { return bytes.NewReader(make([]byte, 1024)) }
	ctx, sink, dir := context.Background(), &memorySink{}, t.TempDir()
	one, other := tartest.Archive(t, tartest.File("a", noise(1, 5000))), tartest.Archive(t, tartest.File("b", noise(2, 5000)))
	for name, add := range map[string]func(*Tree) error{
		"two tars":        func(t *Tree) error { return errors.Join(t.AddTar(ctx, empty(), sink), t.AddTar(ctx, empty(), sink)) },
		"directory twice": func(t *Tree) error { return errors.Join(t.AddDir(ctx, dir, sink), t.AddDir(ctx, dir, sink)) },
		"no source":       func(t *Tree) error { return t.Finish(Overrides{}) },
		"two sinks": func(t *Tree) error {
			return errors.Join(t.ApplyLayer(ctx, bytes.NewReader(one), sink), t.ApplyLayer(ctx, bytes.NewReader(other), &memorySink{}))
		},
	} {
		tree, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := add(tree); err == nil {
			t.Errorf("%s: no error", name)
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheUUIDTellsAttributesApart(t *testing.T) {
	a, b, other := erofs.Xattr{Name: "user.a", Value: []byte("1")}, erofs.Xattr{Name: "user.b", Value: []byte("2")}, erofs.Xattr{Name: "user.a", Value: []byte("3")}
	uuid := func(x ...erofs.Xattr) [16]byte {
		return (&Tree{root: &erofs.Inode{Mode: unix.S_IFDIR, Xattrs: x}}).Summarize().UUID
	}
	if uuid(a, b) != uuid(b, a) {
		t.Error("the order in which a file system lists attributes matters")
	}
	seen := map[[16]byte]bool{uuid(): true, uuid(a): true, uuid(b): true, uuid(other): true, uuid(a, b): true}
	if len(seen) != 5 {
		t.Errorf("5 different trees have %d UUIDs", len(seen))
	}
}

func TestForeignAttributesAreLeftOutWithOneNoteEach(t *testing.T) {
	foreign := tartest.Member{Header: tar.Header{Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"SCHILY.xattr.com.apple.provenance": "x", "SCHILY.xattr.user.kept": "y", "SCHILY.acl.access": "user::rw-,user:lisa:rw-"}}}
	a, b := foreign, foreign
	a.Name, b.Name = "a", "b"
	var notes []string
	tree, err := New(Options{Note: func(m string) { notes = append(notes, m) }})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.AddTar(context.Background(), bytes.NewReader(tartest.Archive(t, a, b)), &memorySink{}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Finish(Overrides{}); err != nil {
		t.Fatal(err)
	}
	for _, e := range tree.Root().Entries {
		if x := e.Inode.Xattrs; len(x) != 1 || x[0].Name != "user.kept" {
			t.Errorf("%s has %v", e.Name, x)
		}
	}
	if len(notes) != 2 || !strings.Contains(notes[0], "com.apple.provenance") || !strings.Contains(notes[1], "SCHILY.acl.access") {
		t.Errorf("notes %q", notes)
	}
}
