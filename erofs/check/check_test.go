package check_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/erofs/check"
)

// memory is an io.WriterAt.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

// sample is a metadata image with a bit of everything. Its checksum is switched off, so that it can be damaged.
func sample(t testing.TB) []byte {
	t.Helper()
	reg := func(n *erofs.Inode) *erofs.Inode { n.Mode = unix.S_IFREG | 0o644; return n }
	hard := reg(&erofs.Inode{Size: 5, Inline: erofs.Inline{Len: 5}, Xattrs: []erofs.Xattr{{Name: "user.a", Value: []byte("1")}, {Name: "user.b"}}})
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{
		{Name: "chunks", Inode: reg(&erofs.Inode{Size: 20000, Extents: []erofs.Extent{{Len: 8192, Device: 1, Block: 5}, {Off: 8192, Len: 12000, Device: 1, Block: 50}}})},
		{Name: "dir", Inode: &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{{Name: "hard", Inode: hard}, {Name: "sub", Inode: &erofs.Inode{Mode: unix.S_IFDIR | 0o700}}}}},
		{Name: "file", Inode: hard},
		{Name: "link", Inode: &erofs.Inode{Mode: unix.S_IFLNK | 0o777, Target: "dir/hard"}},
		{Name: "pipe", Inode: &erofs.Inode{Mode: unix.S_IFIFO | 0o600}},
		{Name: "single", Inode: reg(&erofs.Inode{Size: 3, Inline: erofs.Inline{Len: 3}})},
	}}
	var m memory
	o := erofs.WriteOptions{InlineData: strings.NewReader("hello"), Devices: []erofs.Device{{Tag: "data", Blocks: 53}}}
	if _, err := erofs.Write(&m, root, o); err != nil {
		t.Fatal(err)
	}
	m.b[1024+8] &^= 1 // SB_CHKSUM
	return m.b
}

// problems checks an image and returns a line for each problem, and the error.
func problems(ctx context.Context, image []byte) ([]string, check.Stats, error) {
	fsys, err := erofs.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return nil, check.Stats{}, err
	}
	var list []string
	stats, err := check.Image(ctx, fsys, func(path string, err error) { list = append(list, fmt.Sprintf("%s: %v", path, err)) })
	return list, stats, err
}

func TestSoundImagesHaveNoProblem(t *testing.T) {
	list, stats, err := problems(t.Context(), sample(t))
	if err != nil || len(list) > 0 {
		t.Errorf("%q, %v", list, err)
	}
	want := check.Stats{Inodes: 8, Names: 8, Directories: 3, Files: 3, Symlinks: 1, Special: 1, Xattrs: 2, Bytes: 20008, Mapped: 20000}
	if stats != want {
		t.Errorf("%+v, want %+v", stats, want)
	}
}

// inodeOf returns the bytes of a file's inode (struct erofs_inode_extended) and what follows.
func inodeOf(t *testing.T, image []byte, path string) []byte {
	t.Helper()
	fsys, err := erofs.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := fsys.Find(path, false)
	if err != nil {
		t.Fatal(err)
	}
	start := uint64(binary.LittleEndian.Uint32(image[1024+40:])) * erofs.BlockSize
	return image[start+h.Stat().Ino*32:]
}

// Offsets in struct erofs_inode_extended.
const (
	offMode  = 4
	offNsec  = 40
	offNlink = 44
	behind   = 64
)

func TestDamageIsNamed(t *testing.T) {
	le := binary.LittleEndian
	u32 := func(path string, off int, v uint32) func(*testing.T, []byte) {
		return func(t *testing.T, image []byte) { le.PutUint32(inodeOf(t, image, path)[off:], v) }
	}
	for _, c := range []struct {
		name   string
		damage func(*testing.T, []byte)
		want   string
	}{
		{"too many links", u32("file", offNlink, 3), "dir/hard: 3 links, but 2 names lead to it"},
		{"too few links", u32("file", offNlink, 1), "1 links, but 2 names lead to it"},
		{"links of one name", u32("single", offNlink, 7), "single: 7 links, but 1 names"},
		{"links of a directory", u32("dir", offNlink, 5), "dir: 5 links, but 1 directories are in it"},
		{"nanoseconds", u32("file", offNsec, 1_000_000_000), "modification time has 1000000000 nanoseconds"},
		{"type", func(t *testing.T, image []byte) {
			le.PutUint16(inodeOf(t, image, "pipe")[offMode:], unix.S_IFSOCK|0o600)
		}, "calls it a pipe, its inode"},
		{"block behind the device", u32("chunks", behind+8+4, 1000), "of device 1, which has 53"},
		{"no such device", func(t *testing.T, image []byte) { le.PutUint16(inodeOf(t, image, "chunks")[behind+2:], 9) }, "device 9 of 1"},
		{"inodes in the superblock", func(_ *testing.T, image []byte) { le.PutUint64(image[1024+16:], 80) }, "the superblock says 80 inodes, there are 8"},
		{"NUL in a link", func(t *testing.T, image []byte) { inodeOf(t, image, "link")[behind+3] = 0 }, "link: the link's target contains NUL"},
		{"twice the same attribute", func(t *testing.T, image []byte) {
			b := inodeOf(t, image, "file")
			copy(b[bytes.Index(b, []byte("b")):], "a")
		}, `"user.a" is there twice`},
		{"size", func(t *testing.T, image []byte) { le.PutUint64(inodeOf(t, image, "chunks")[8:], 1<<40) }, "chunks: "},
	} {
		image := sample(t)
		c.damage(t, image)
		list, _, err := problems(t.Context(), image)
		if err != nil || !strings.Contains(strings.Join(list, "\n"), c.want) {
			t.Errorf("%s: got %q, %v; want %s", c.name, list, err, c.want)
		}
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	errStop := errors.New("interrupted")
	cancel(errStop)
	if _, _, err := problems(ctx, sample(t)); !errors.Is(err, errStop) {
		t.Errorf("error is %v", err)
	}
}

// FuzzImage wants the check of any image to end, and to find nothing in what it counted twice.
func FuzzImage(f *testing.F) {
	image := sample(f)
	f.Add(image)
	f.Add(image[:2048])
	f.Fuzz(func(t *testing.T, image []byte) {
		first, _, err := problems(t.Context(), image)
		again, _, errAgain := problems(t.Context(), image)
		if len(first) != len(again) || (err == nil) != (errAgain == nil) {
			t.Errorf("%q, %v at first, then %q, %v", first, err, again, errAgain)
		}
	})
}
