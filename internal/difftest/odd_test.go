package difftest_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// oddTree has each feature of Linux file systems that an image must keep, by name, so that none depends on luck.
func oddTree(t *testing.T) string {
	o := &odd{t: t, dir: t.TempDir()}
	o.types()
	o.names()
	o.attributes()
	o.links()
	o.contents()
	return o.dir
}

type odd struct {
	t   *testing.T
	dir string
}

func (o *odd) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatalf("make a tree with everything odd: %v", err)
	}
}

func (o *odd) path(name string) string { return filepath.Join(o.dir, name) }

func (o *odd) file(name, data string) string {
	o.t.Helper()
	path := o.path(name)
	o.must(os.MkdirAll(filepath.Dir(path), 0o755))
	o.must(os.WriteFile(path, []byte(data), 0o644))
	return path
}

func (o *odd) mkdir(name string) string {
	o.t.Helper()
	path := o.path(name)
	o.must(os.MkdirAll(path, 0o755))
	return path
}

// types has all types of files, with device numbers at the borders of their encodings. The socket is to be passed over.
func (o *odd) types() {
	dir := o.mkdir("types")
	for i, dev := range []uint64{0, unix.Mkdev(1, 3), unix.Mkdev(255, 255), unix.Mkdev(256, 256), unix.Mkdev(4095, 1<<20-1)} {
		o.must(unix.Mknod(fmt.Sprint(dir, "/char", i), unix.S_IFCHR|0o640, int(dev)))
		o.must(unix.Mknod(fmt.Sprint(dir, "/block", i), unix.S_IFBLK|0o604, int(dev)))
	}
	o.must(unix.Mknod(dir+"/fifo", unix.S_IFIFO|0o4711, 0))
	l, err := net.Listen("unix", o.short(dir)+"/socket")
	o.must(err)
	o.t.Cleanup(func() { l.Close() })
	o.must(os.Symlink("x", dir+"/symlink"))
	o.must(os.Symlink(strings.Repeat("/123456789", 409), dir+"/long symlink"))
	o.must(os.Symlink("\xff\n", dir+"/symlink in bytes"))
	o.mkdir("types/empty directory")
	o.file("types/empty file", "")
}

// short returns a short name for a directory, as addresses of sockets hold few bytes.
func (o *odd) short(dir string) string {
	tmp, err := os.MkdirTemp("", "p")
	o.must(err)
	o.t.Cleanup(func() { os.RemoveAll(tmp) })
	o.must(os.Symlink(dir, tmp+"/d"))
	return tmp + "/d"
}

// names has every byte that a name can have, the longest names, the longest path, and directories of one block, of several, and of many.
func (o *odd) names() {
	for b := 1; b < 256; b++ {
		if b != '/' && b != '.' {
			o.file("names/"+string([]byte{byte(b)}), "x")
		}
	}
	for _, name := range []string{"..a", "...", "a.", ".wh.x", ".wh..wh..opq", strings.Repeat("x", 255), strings.Repeat("é", 127), "\xed\xa0\x80"} {
		o.file("names/"+name, "y")
	}
	deep := "names" + strings.Repeat("/"+strings.Repeat("d", 254), 14)
	o.file(deep+"/end", "z")
	for _, n := range []int{1, 130, 131, 1500} {
		dir := fmt.Sprint("many", n)
		o.mkdir(dir)
		for i := range n {
			o.must(os.WriteFile(o.path(fmt.Sprintf("%s/a name of 28 bytes in all %d", dir, i)), nil, 0o600))
		}
	}
}

// attributes has permissions, owners, times and extended attributes at their borders, and those that mean something to the kernel.
func (o *odd) attributes() {
	for _, mode := range []uint32{0, 0o7777, 0o4755, 0o2755, 0o1777, 0o644} {
		o.must(unix.Chmod(o.file(fmt.Sprintf("attributes/mode %o", mode), "x"), mode))
		o.must(unix.Chmod(o.mkdir(fmt.Sprintf("attributes/directory %o", mode)), mode))
	}
	for i, id := range []int{0, 1, 65535, 65536, 1 << 31, 1<<32 - 2} {
		path := o.file(fmt.Sprint("attributes/owner ", i), "x")
		o.must(os.Lchown(path, id, 1<<32-2-id))
	}
	for i, ts := range []unix.Timespec{{}, {Nsec: 1}, {Nsec: 999_999_999}, {Sec: -1, Nsec: 5}, {Sec: -1 << 31}, {Sec: 1<<31 - 1}, {Sec: 1 << 31}, {Sec: 1 << 32}, {Sec: 3<<32 - 1<<31 - 1}} {
		path := o.file(fmt.Sprint("attributes/time ", i), "x")
		o.must(unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, 0))
	}
	set := func(path, name, value string) {
		o.t.Helper()
		o.must(unix.Lsetxattr(path, name, []byte(value), 0))
	}
	file, dir := o.file("attributes/extended", "x"), o.mkdir("attributes/extended directory")
	symlink := o.path("attributes/extended symlink")
	o.must(os.Symlink("x", symlink))
	for _, path := range []string{file, dir} {
		set(path, "user.empty", "")
		set(path, "user.bytes", "\x00\xff=\n%")
		set(path, "user.name with = and %", "x")
		set(path, "user.mime_type", "text/plain")
		set(path, "system.posix_acl_access", posixACL(7))
	}
	set(dir, "system.posix_acl_default", posixACL(9))
	set(file, "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00"+strings.Repeat("\x00", 12))
	set(file, "user."+strings.Repeat("n", 250), "the longest name")
	set(o.file("attributes/large extended", "x"), "user.large", strings.Repeat("v", 3000))
	for _, path := range []string{file, dir, symlink} {
		set(path, "security.selinux", "system_u:object_r:bin_t:s0\x00")
		set(path, "trusted.x", "y")
		set(path, "trusted.overlay.opaque", "y")
	}
	for i := range 300 { // attributes that many files share, and others
		path := o.file(fmt.Sprint("attributes/shared/", i), "x")
		set(path, "security.selinux", "system_u:object_r:lib_t:s0\x00")
		set(path, "user.own", fmt.Sprint(i))
	}
}

// posixACL is user::rwx, user:UID:r-x, group::r-x, mask::rwx, other::---.
func posixACL(uid uint32) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{0x01, 7, 1<<32 - 1}, {0x02, 5, uid}, {0x04, 5, 1<<32 - 1}, {0x10, 7, 1<<32 - 1}, {0x20, 0, 1<<32 - 1}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return string(b)
}

// links has hard links across directories, and many of one file and of one directory.
func (o *odd) links() {
	o.mkdir("links/there")
	for i, path := range []string{o.file("links/file", "content"), o.file("links/empty", ""), o.path("types/symlink")} {
		for j := range 3 {
			o.must(os.Link(path, o.path(fmt.Sprintf("links/there/%d.%d", i, j))))
		}
	}
	many := o.file("links/many", strings.Repeat("x", 5000))
	for i := range 2000 {
		o.must(os.Link(many, o.path(fmt.Sprint("links/there/many", i))))
	}
	for i := range 300 {
		o.mkdir(fmt.Sprint("links/directories/", i))
	}
}

// specialLinks has hard links that GNU tar makes files of their own of.
func specialLinks(t *testing.T) string {
	o := &odd{t: t, dir: t.TempDir()}
	o.types()
	for _, name := range []string{"fifo", "char1", "block2"} {
		o.must(os.Link(o.path("types/"+name), o.path(name)))
	}
	return o.dir
}

// contents has equal files, files with holes at each place, and sizes around all borders.
func (o *odd) contents() {
	for _, size := range []int{1, 511, 512, 513, 3071, 3072, 3073, 4095, 4096, 4097, 8191, 8192, 65535, 65536, 65537, 131071, 131072, 131073, 1 << 20, 3<<20 + 5} {
		data := strings.Repeat(fmt.Sprintf("%d.", size), size)[:size]
		o.file(fmt.Sprint("contents/", size), data)
		o.file(fmt.Sprint("contents/again/", size), data)
		o.file(fmt.Sprint("contents/zeros/", size), strings.Repeat("\x00", size))
	}
	const block = 4096
	for i, f := range []struct {
		size int64
		data []int64 // blocks that are written
	}{
		{5 * block, nil}, {5, nil}, {5 * block, []int64{0}}, {5 * block, []int64{4}}, {5 * block, []int64{2}}, {5*block + 1, []int64{1, 3}}, {5*block - 1, []int64{0, 4}},
		{20 << 20, []int64{0, 1000, 4000}},
	} {
		file, err := os.Create(o.file(fmt.Sprint("contents/holes/", i), ""))
		o.must(err)
		o.must(file.Truncate(f.size))
		for _, b := range f.data {
			data := strings.Repeat("d", int(min(block, f.size-b*block)))
			_, err := file.WriteAt([]byte(data), b*block)
			o.must(err)
		}
		o.must(file.Close())
	}
}
