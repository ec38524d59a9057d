package erofs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"golang.org/x/sys/unix"
)

// sourceDir makes a directory with files of all types for mkfs.erofs. It leaves out names that mkfs.erofs 1.5 refuses (255 bytes).
func sourceDir(t *testing.T) string {
	t.Helper()
	require.Root(t)
	r := rand.New(rand.NewPCG(1, 1))
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir+"/big", 0o750))
	for i := range 500 {
		must(os.WriteFile(fmt.Sprintf("%s/big/some file %d", dir, i), nil, 0o644))
	}
	for i, size := range []int{0, 1, 100, 4000, 4095, 4096, 4097, 8191, 8192, 100000, 1 << 20} {
		name := fmt.Sprintf("%s/f%d", dir, size)
		must(os.WriteFile(name, randomBytes(r, size), 0o600))
		must(unix.Setxattr(name, "user.shared", []byte("the same everywhere"), 0))
		must(unix.Setxattr(name, "trusted.own", []byte(name), 0))
		must(os.Chown(name, 1000+i, i*10))
	}
	must(os.WriteFile(dir+"/sparse", append(make([]byte, 1<<20), "end"...), 0o644))
	must(os.WriteFile(dir+"/-a", nil, 0o644))
	must(os.WriteFile(dir+"/\xff\xfe", nil, 0o644))
	must(os.WriteFile(dir+"/..a", nil, 0o644))
	must(os.Mkdir(dir+"/empty", 0o1777))
	must(os.Symlink("f100", dir+"/link"))
	must(os.Symlink(strings.Repeat("x/", 2000), dir+"/long link"))
	must(os.Link(dir+"/f8191", dir+"/big/hard link"))
	must(unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mknod(dir+"/disk", unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	must(unix.Mkfifo(dir+"/fifo", 0o600))
	must(unix.Setxattr(dir+"/big", "system.posix_acl_default", someACL(r), 0))
	return dir
}

// sameTree compares two views of a tree. Inode numbers and directory sizes may differ, and mtimes where the image has none.
func sameTree(t *testing.T, want, got view, mtimes bool) {
	t.Helper()
	var visit func(path string)
	visit = func(path string) {
		w, err := want.lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		g, err := got.lstat(path)
		if err != nil {
			t.Errorf("%q: %v", path, err)
			return
		}
		g.Ino = w.Ino
		if w.Mode&unix.S_IFMT == unix.S_IFDIR {
			g.Size = w.Size
		}
		if !mtimes {
			g.Mtime, g.MtimeNsec = w.Mtime, w.MtimeNsec
		}
		if w != g {
			t.Errorf("%q: stat is %+v, want %+v", path, g, w)
		}
		if err := sameContent(want, got, path, w); err != nil {
			t.Errorf("%q: %v", path, err)
		}
		if w.Mode&unix.S_IFMT == unix.S_IFDIR {
			names, err := want.names(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				visit(strings.TrimPrefix(path+"/"+name, "./"))
			}
		}
	}
	visit(".")
}

func sameContent(want, got view, path string, st Stat) error {
	sorted := func(v view) ([]Xattr, error) {
		list, err := v.xattrs(path)
		slices.SortFunc(list, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
		return list, err
	}
	wx, err := sorted(want)
	if err != nil {
		return err
	}
	gx, err := sorted(got)
	if err != nil || outline(wx) != outline(gx) || fmt.Sprint(wx) != fmt.Sprint(gx) {
		return fmt.Errorf("xattrs are %s (%v), want %s", outline(gx), err, outline(wx))
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		names, err := want.names(path)
		if err != nil {
			return err
		}
		dir := &Inode{}
		for _, name := range names {
			dir.Entries = append(dir.Entries, Dirent{Name: name})
		}
		return compareNames(got, path, dir)
	case unix.S_IFLNK:
		w, err := want.readlink(path)
		if err != nil {
			return err
		}
		if g, err := got.readlink(path); err != nil || g != w {
			return fmt.Errorf("link target is %.80q (%v), want %.80q", g, err, w)
		}
	case unix.S_IFREG:
		w, err := content(want, path, st.Size)
		if err != nil {
			return err
		}
		if g, err := content(got, path, st.Size); err != nil || !bytes.Equal(w, g) {
			return fmt.Errorf("%d bytes of content are wrong (%v)", len(g), err)
		}
	}
	return nil
}

func content(v view, path string, size int64) ([]byte, error) {
	r, c, err := v.open(path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(io.NewSectionReader(r, 0, size+1))
}

func TestImagesOfOtherWritersAreRead(t *testing.T) {
	mkfs := require.Tool(t, "mkfs.erofs")
	src := sourceDir(t)
	tests := []struct {
		name    string
		args    []string
		blobdev bool
		mtimes  bool
		check   func(*FS) error
	}{
		{name: "defaults", mtimes: true},
		{name: "compact inodes", args: []string{"--ignore-mtime"}, check: wantInode(func(n *node) bool { return !n.Extended })},
		{name: "extended inodes", args: []string{"-Eforce-inode-extended"}, mtimes: true, check: wantInode(func(n *node) bool { return n.Extended })},
		{name: "no inline data", args: []string{"-Enoinline_data"}, mtimes: true},
		{name: "shared xattrs", args: []string{"-x1"}, mtimes: true},
		{name: "no shared xattrs", args: []string{"-x1000"}, mtimes: true},
		{name: "no checksum", args: []string{"-Enosbcrc"}, mtimes: true},
		{name: "32-bit block maps", args: []string{"--chunksize=4096", "-Eforce-inode-blockmap"}, mtimes: true,
			check: wantInode(func(n *node) bool { return n.Layout == layoutChunked && n.U&chunkIndexes == 0 })},
		{name: "chunk indexes", args: []string{"--chunksize=8192", "-Eforce-chunk-indexes"}, mtimes: true,
			check: wantInode(func(n *node) bool { return n.Layout == layoutChunked && n.U&chunkIndexes != 0 })},
		{name: "blob device", args: []string{"--chunksize=65536"}, blobdev: true, mtimes: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			image, blob := filepath.Join(dir, "image"), filepath.Join(dir, "blob")
			args := append([]string{"--quiet"}, tt.args...)
			var devices []io.ReaderAt
			if tt.blobdev {
				args = append(args, "--blobdev="+blob)
			}
			if out, err := exec.Command(mkfs, append(args, image, src)...).CombinedOutput(); err != nil {
				t.Fatalf("mkfs.erofs %v: %v\n%s", args, err, out)
			}
			if tt.blobdev {
				devices = append(devices, openFile(t, blob))
			}
			f := openFile(t, image)
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			fsys, err := Open(f, st.Size(), devices...)
			if err != nil {
				t.Fatal(err)
			}
			sameTree(t, kernelView{dir: src}, fsView{fsys}, tt.mtimes)
			t.Run("kernel", func(t *testing.T) {
				var devices []string
				if tt.blobdev {
					devices = append(devices, blob)
				}
				sameTree(t, mount(t, image, devices), fsView{fsys}, true)
			})
			if tt.check != nil {
				if err := tt.check(fsys); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// wantInode makes sure that an option of mkfs.erofs had its effect on the file that it is tried on.
func wantInode(ok func(*node) bool) func(*FS) error {
	return func(fsys *FS) error {
		n, err := fsys.walk("test", "f100000", true)
		if err == nil && !ok(n) {
			err = fmt.Errorf("mkfs.erofs made another kind of inode: %+v", n.diskInode)
		}
		return err
	}
}

func openFile(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestCompressedFilesAreRefused(t *testing.T) {
	mkfs := require.Tool(t, "mkfs.erofs")
	src, image := t.TempDir(), filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(src+"/zeros", make([]byte, 100000), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-zlz4", image, src).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = content(fsView{fsys}, "zeros", 100000)
	if err == nil || !strings.Contains(err.Error(), "data is compressed") {
		t.Errorf("error is %v", err)
	}
}
