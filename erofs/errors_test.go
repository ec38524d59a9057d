package erofs

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBadTreesAreRefusedWithTheirPath(t *testing.T) {
	file := func(n Inode) *Inode { n.Mode |= unix.S_IFREG; return &n }
	loop := &Inode{Mode: unix.S_IFDIR}
	loop.Entries = []Dirent{{"again", loop}}
	twice := &Inode{Mode: unix.S_IFDIR}
	many := make([]Xattr, 5)
	for i := range many {
		many[i] = Xattr{"user." + string(rune('a'+i)), make([]byte, 65535)}
	}
	one := WriteOptions{Devices: []Device{{Blocks: 10}}, MetaBlock: 5, InlineData: strings.NewReader(strings.Repeat("x", 5000))}
	tests := []struct {
		name string
		n    *Inode
		o    WriteOptions
		want string
	}{
		{name: "", n: file(Inode{}), want: `directory "/d": empty name`},
		{name: ".", n: file(Inode{}), want: `directory "/d": name "." is reserved`},
		{name: "..", n: file(Inode{}), want: `name ".." is reserved`},
		{name: "a/b", n: file(Inode{}), want: "slash or NUL"},
		{name: "a\x00b", n: file(Inode{}), want: "slash or NUL"},
		{name: strings.Repeat("n", 256), n: file(Inode{}), want: "has 256 bytes: the limit is 255"},
		{name: "twin", n: file(Inode{}), want: `directory "/d": name "twin" is there twice`},
		{name: "x", n: nil, want: `name "x" has no inode`},
		{name: "x", n: loop, want: `"again" leads to a directory that already has a place in the tree, "/d/x"`},
		{name: "x", n: &Inode{Mode: unix.S_IFDIR, Entries: []Dirent{{"a", twice}, {"b", twice}}}, want: `"b" leads to a directory that already has a place`},
		{name: "x", n: &Inode{Mode: 0o644}, want: `"/d/x": mode 0644`},
		{name: "x", n: &Inode{Mode: unix.S_IFREG | 1<<20}, want: "mode"},
		{name: "x", n: file(Inode{MtimeNsec: 1e9}), want: "nanoseconds"},
		{name: "x", n: &Inode{Mode: unix.S_IFLNK}, want: "link target has 0 bytes"},
		{name: "x", n: &Inode{Mode: unix.S_IFLNK, Target: strings.Repeat("t", 4096)}, want: "link target has 4096 bytes"},
		{name: "x", n: &Inode{Mode: unix.S_IFLNK, Target: "a\x00"}, want: "NUL"},
		{name: "x", n: file(Inode{Xattrs: []Xattr{{"system.nfs4_acl", nil}}}), want: `"/d/x": xattr "system.nfs4_acl"`},
		{name: "x", n: file(Inode{Xattrs: []Xattr{{"lustre.x", nil}}}), want: `xattr "lustre.x"`},
		{name: "x", n: file(Inode{Xattrs: []Xattr{{"user.", nil}}}), want: "nothing follows"},
		{name: "x", n: file(Inode{Xattrs: []Xattr{{"system.posix_acl_access2", nil}}}), want: "posix_acl_access2"},
		{name: "x", n: file(Inode{Xattrs: []Xattr{{"user." + strings.Repeat("x", 256), nil}}}), want: "256 bytes"},
		{name: "x", n: file(Inode{Xattrs: []Xattr{{"user.a", nil}, {"user.a", nil}}}), want: `xattr "user.a" is there twice`},
		{name: "x", n: file(Inode{Xattrs: []Xattr{{"user.a", make([]byte, 65536)}}}), want: "65536 bytes: the limit is 65535"},
		{name: "x", n: file(Inode{Xattrs: many}), want: "xattrs take more than 262148 bytes"},
		{name: "x", n: file(Inode{Size: -1}), want: `"/d/x": size -1`},
		{name: "x", n: file(Inode{Size: math.MaxInt64}), want: "size 9223372036854775807"},
		{name: "x", o: one, n: file(Inode{Size: 5, Inline: Inline{0, 4}}), want: "neither the whole file nor the tail"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Inline: Inline{0, 4096}}), want: "at most 4095"},
		{name: "x", o: one, n: file(Inode{Size: 4, Inline: Inline{-1, 4}}), want: "offset -1"},
		{name: "x", n: file(Inode{Size: 4, Inline: Inline{0, 4}}), want: "no source of inline data"},
		{name: "x", o: one, n: file(Inode{Size: 4, Inline: Inline{4999, 4}}), want: `"/d/x": read inline data at 4999: unexpected EOF`},
		{name: "x", o: one, n: file(Inode{Size: 4100, Inline: Inline{0, 4}, Extents: []Extent{{Len: 4096, Device: 1}}}), want: "neither the whole file nor the tail"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Len: 4096, Device: 2}}}), want: "extent 0 at offset 0: device 2: the image has 1 extra devices"},
		{name: "x", o: one, n: file(Inode{Size: 8192, Extents: []Extent{{Len: 8192, Device: 1, Block: 9}}}), want: "device 1 has data in blocks 0 to 9 only"},
		{name: "x", o: one, n: file(Inode{Size: 8192, Extents: []Extent{{Len: 8192, Device: 1, Block: math.MaxUint64}}}), want: "device 1 has data"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Len: 4096, Block: 0}}}), want: "device 0 has data in blocks 1 to 4 only"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Len: 4096, Block: 5}}}), want: "device 0 has data in blocks 1 to 4 only"},
		{name: "x", n: file(Inode{Size: 4096, Extents: []Extent{{Len: 4096, Block: 0}}}), want: "device 0 has no data"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Off: 1, Len: 4095, Device: 1}}}), want: "extent 0 at offset 1"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Len: 4097, Device: 1}}}), want: "not inside a file of 4096"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Len: math.MaxInt64, Device: 1}}}), want: "not inside a file"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Off: 8192, Len: 1, Device: 1}}}), want: "not inside a file"},
		{name: "x", o: one, n: file(Inode{Size: 4096, Extents: []Extent{{Len: 0, Device: 1}}}), want: "not inside a file"},
		{name: "x", o: one, n: file(Inode{Size: 9000, Extents: []Extent{{Len: 100, Device: 1}}}), want: "ends inside a block"},
		{name: "x", o: one, n: file(Inode{Size: 9000, Extents: []Extent{{Len: 8192, Device: 1}, {Off: 4096, Len: 4096, Device: 1}}}), want: "not before 8192"},
		{name: "x", o: one, n: file(Inode{Size: 1 << 50, Extents: []Extent{{Off: 4096, Len: 4096, Device: 1}}}), want: "more than 134217728 chunks"},
		{name: "x", o: WriteOptions{VolumeName: strings.Repeat("v", 16)}, n: file(Inode{}), want: "volume name"},
		{name: "x", o: WriteOptions{BuildTimeNsec: 1e9}, n: file(Inode{}), want: "build time"},
		{name: "x", o: WriteOptions{Devices: make([]Device, 65536)}, n: file(Inode{}), want: "65536 extra devices"},
		{name: "x", o: WriteOptions{Devices: []Device{{Tag: strings.Repeat("t", 65)}}}, n: file(Inode{}), want: "of device 1: want at most 64 bytes"},
		{name: "x", o: WriteOptions{Devices: []Device{{Blocks: 1 << 32}}}, n: file(Inode{}), want: "device 1 has 4294967296 blocks"},
		{name: "x", o: WriteOptions{MetaBlock: 1 << 32}, n: file(Inode{}), want: "last block number"},
		{name: "x", o: WriteOptions{MetaBlock: 4000, Devices: make([]Device, 30)}, n: file(Inode{}), want: "table of this many devices"},
	}
	for _, tt := range tests {
		dir := &Inode{Mode: unix.S_IFDIR, Entries: []Dirent{{"twin", file(Inode{})}, {tt.name, tt.n}}}
		root := &Inode{Mode: unix.S_IFDIR, Entries: []Dirent{{"d", dir}}}
		_, err := Write(&discard{}, root, tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "write EROFS image: ") {
			t.Errorf("error is %v, want …%s…", err, tt.want)
		}
		if root.out != (placement{}) || dir.out != (placement{}) {
			t.Errorf("after %q the tree holds notes of the writer", tt.want)
		}
	}
	for _, root := range []*Inode{nil, {Mode: unix.S_IFREG}} {
		if _, err := Write(&discard{}, root, WriteOptions{}); err == nil || !strings.Contains(err.Error(), "root is not a directory") {
			t.Errorf("root %v: error is %v", root, err)
		}
	}
}

// failing is a disk that is full after so many bytes.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) WriteAt(p []byte, _ int64) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrorsAreReported(t *testing.T) {
	root, o := manyFiles(5000)
	size := &discard{}
	if _, err := Write(size, root, o); err != nil {
		t.Fatal(err)
	}
	for left := 0; left < int(size.end); left += 100000 {
		if _, err := Write(&failing{left}, root, o); !errors.Is(err, errFull) {
			t.Errorf("disk full after %d bytes of %d: error is %v", left, size.end, err)
		}
	}
}

func TestSeekAndRead(t *testing.T) {
	f := newFixture(nil, 0)
	f.root.Entries = []Dirent{{"f", &Inode{Mode: unix.S_IFREG, Size: 10, Inline: f.addInline([]byte("0123456789"))}}}
	image, _ := f.build(t)
	file, err := f.open(t, image).Open("f")
	if err != nil {
		t.Fatal(err)
	}
	s := file.(io.ReadSeeker)
	for _, tt := range []struct {
		off    int64
		whence int
		pos    int64
		rest   string
	}{{3, io.SeekStart, 3, "3456789"}, {-4, io.SeekEnd, 6, "6789"}, {-1, io.SeekCurrent, 9, "9"}, {100, io.SeekStart, 100, ""}} {
		pos, err := s.Seek(tt.off, tt.whence)
		if err != nil || pos != tt.pos {
			t.Errorf("seek %d from %d: %d, %v", tt.off, tt.whence, pos, err)
		}
		if b, err := io.ReadAll(s); err != nil || string(b) != tt.rest {
			t.Errorf("after seek to %d: %q, %v", tt.pos, b, err)
		}
	}
	for _, whence := range []int{io.SeekStart, 7} {
		if _, err := s.Seek(-1, whence); err == nil {
			t.Errorf("seek to -1 from %d was accepted", whence)
		}
	}
}
