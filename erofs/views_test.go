package erofs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"golang.org/x/sys/unix"
)

// kernelView is the view of the running kernel: the image is mounted at dir.
type kernelView struct {
	dir  string
	loop bool // mounted from block devices
}

func (v kernelView) full(path string) string { return v.dir + "/" + path }

// readable is false where the path is longer than a system call takes.
func (v kernelView) readable(path string) bool { return len(v.full(path)) < 4095 }

func (v kernelView) lstat(path string) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Lstat(v.full(path), &st); err != nil {
		return Stat{}, err
	}
	return Stat{
		Ino: st.Ino, Mode: st.Mode, Nlink: uint32(st.Nlink), UID: st.Uid, GID: st.Gid,
		Rdev: MakeRdev(unix.Major(st.Rdev), unix.Minor(st.Rdev)), Size: st.Size, Mtime: st.Mtim.Sec, MtimeNsec: uint32(st.Mtim.Nsec),
	}, nil
}

func (v kernelView) readlink(path string) (string, error) { return os.Readlink(v.full(path)) }

func (v kernelView) names(path string) ([]string, error) {
	d, err := os.Open(v.full(path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (v kernelView) open(path string) (io.ReaderAt, io.Closer, error) {
	f, err := os.Open(v.full(path))
	return f, f, err
}

func (v kernelView) xattrs(path string) ([]Xattr, error) {
	buf := make([]byte, 70000)
	size, err := unix.Llistxattr(v.full(path), buf)
	if err != nil {
		return nil, err
	}
	var list []Xattr
	for _, name := range strings.Split(strings.TrimSuffix(string(buf[:size]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		k, err := unix.Lgetxattr(v.full(path), name, buf)
		if err != nil {
			return nil, fmt.Errorf("xattr %s: %w", name, err)
		}
		list = append(list, Xattr{name, bytes.Clone(buf[:k])})
	}
	return list, nil
}

// mount mounts an image with its devices through the running kernel.
func mount(t *testing.T, image string, devices []string) kernelView {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	err := tryMount(image, dir, devices)
	loop := err == unix.ENOTBLK
	if loop {
		blocks := make([]string, len(devices))
		for i, d := range devices {
			blocks[i] = erofstest.Loop(t, d)
		}
		err = tryMount(erofstest.Loop(t, image), dir, blocks)
	}
	if err == unix.ENODEV || err == unix.EPERM {
		require.Feature(t, false, "kernel that mounts EROFS: "+err.Error())
	}
	if err != nil {
		t.Fatalf("mount %s: %v", image, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return kernelView{dir, loop}
}

// misread reports whether the kernel may show wrong data of a file. Mounted from block devices, Linux (seen in 6.1.192 and 6.12.117,
// iomap_readpage_iter in fs/iomap/buffered-io.c) compares sector numbers only when it puts a request together: where a piece ends and the next one begins at
// the same number of another device, it reads on from the first.
func (v kernelView) misread(n *Inode) bool {
	for i := 1; v.loop && i < len(n.Extents); i++ {
		a, b := n.Extents[i-1], n.Extents[i]
		if a.Device != b.Device && a.Block+uint64(fileBlocks(a.Len)) == b.Block {
			return true
		}
	}
	return false
}

func tryMount(image, dir string, devices []string) error {
	var opts []string
	for _, d := range devices {
		opts = append(opts, "device="+d)
	}
	return unix.Mount(image, dir, "erofs", unix.MS_RDONLY, strings.Join(opts, ","))
}

// goView is the view of github.com/erofs/go-erofs, an independent reader.
type goView struct{ fs.FS }

func openGo(t *testing.T, f *fixture, image []byte) goView {
	t.Helper()
	var devices []io.ReaderAt
	for i, d := range f.devices {
		devices = append(devices, zeroPadded{d, int64(f.opts.Devices[i].Blocks) * BlockSize})
	}
	fsys, err := goerofs.Open(bytes.NewReader(image), goerofs.WithExtraDevices(devices...))
	if err != nil {
		t.Fatal(err)
	}
	return goView{fsys}
}

func (v goView) readable(path string) bool { return fs.ValidPath(path) }

func (v goView) lstat(path string) (Stat, error) {
	i, err := fs.Lstat(v.FS, path)
	if err != nil {
		return Stat{}, err
	}
	s := i.Sys().(*goerofs.Stat)
	return Stat{
		Ino: uint64(s.Ino), Mode: unixMode(s.Mode), Nlink: uint32(s.Nlink), UID: s.UID, GID: s.GID,
		Rdev: s.Rdev, Size: s.Size, Mtime: int64(s.Mtime), MtimeNsec: s.MtimeNs,
	}, nil
}

// unixMode is the inverse of goMode.
func unixMode(m fs.FileMode) uint32 {
	for _, t := range []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK} {
		for special := uint32(0); special < 0o10000; special += 0o1000 {
			if u := t | special | uint32(m.Perm()); goMode(u) == m {
				return u
			}
		}
	}
	return 0
}

func (v goView) readlink(path string) (string, error) { return fs.ReadLink(v.FS, path) }

func (v goView) names(path string) ([]string, error) {
	list, err := fs.ReadDir(v.FS, path)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, err
}

func (v goView) xattrs(path string) ([]Xattr, error) {
	i, err := fs.Lstat(v.FS, path)
	if err != nil {
		return nil, err
	}
	var list []Xattr
	for name, value := range i.Sys().(*goerofs.Stat).Xattrs {
		if strings.HasPrefix(name, "system.posix_acl_") {
			name = strings.TrimSuffix(name, ".") // go-erofs 0.3.1 puts one there
		}
		list = append(list, Xattr{name, []byte(value)})
	}
	return list, nil
}

func (v goView) open(path string) (io.ReaderAt, io.Closer, error) {
	f, err := v.Open(path)
	if err != nil {
		return nil, nil, err
	}
	const limit = 1 << 20
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return goData{bytes.NewReader(b), limit}, f, err
}

// goData is the beginning of a file: go-erofs reads files only from front to back.
type goData struct {
	*bytes.Reader
	limit int64
}

func (d goData) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > d.limit {
		return 0, errTooFar
	}
	return d.Reader.ReadAt(b, off)
}
