package erofs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"golang.org/x/sys/unix"
)

// check compares an image with its tree through every reader there is.
func check(t *testing.T, f *fixture) {
	t.Helper()
	image, _ := f.build(t)
	t.Run("own reader", func(t *testing.T) { compare(t, f, fsView{f.open(t, image)}) })
	t.Run("go-erofs", func(t *testing.T) { compare(t, f, openGo(t, f, image)) })
	path, devices := f.save(t, image)
	if os.Getenv(require.GuestEnv) == "" { // test guests have no erofs-utils
		t.Run("fsck", func(t *testing.T) { fsck(t, path, devices, !f.hasLargeFiles()) })
	}
	t.Run("kernel", func(t *testing.T) { compare(t, f, mount(t, path, devices)) })
}

// fsck runs fsck.erofs and dump.erofs over an image. With data, fsck.erofs also reads all files. Version 1.5 accepts everything that the tests
// write, 255-byte names too, which its mkfs.erofs refuses.
func fsck(t *testing.T, image string, devices []string, data bool) {
	t.Helper()
	var args []string
	if data {
		args = append(args, "--extract")
	}
	for _, d := range devices {
		args = append(args, "--device="+d)
	}
	args = append(args, image)
	if out, err := exec.Command(require.Tool(t, "fsck.erofs"), args...).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%.2000s", err, out)
	}
	if data {
		args = args[1:]
	}
	if out, err := exec.Command(require.Tool(t, "dump.erofs"), append([]string{"-s"}, args...)...).CombinedOutput(); err != nil {
		t.Errorf("dump.erofs -s: %v\n%s", err, out)
	}
}

// hasLargeFiles reports whether reading everything would take long.
func (f *fixture) hasLargeFiles() bool {
	large := false
	f.each(func(_ string, n *Inode) { large = large || n.Size > 1<<30 })
	return large
}

func TestEveryReaderSeesTheTreeThatWasWritten(t *testing.T) {
	layouts := []struct {
		name    string
		plain   int
		devices []int
	}{
		{"metadata image over one device", 0, []int{200}},
		{"metadata image over five devices", 0, []int{200, 100, 300, 80, 90}},
		{"plain image", 200, nil},
		{"plain image with devices", 200, []int{100, 100}},
	}
	for _, l := range layouts {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", l.name, seed), func(t *testing.T) {
				check(t, randomTree(rand.New(rand.NewPCG(1, seed)), 400, l.plain, l.devices...))
			})
		}
	}
}

func TestLargeDirectory(t *testing.T) {
	f := newFixture(rand.New(rand.NewPCG(1, 1)), 0)
	for _, name := range oddNames {
		f.root.Entries = append(f.root.Entries, Dirent{name, &Inode{Mode: unix.S_IFREG}})
	}
	for i := range 20000 {
		f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprintf("file %d", i*7919%20000), &Inode{Mode: unix.S_IFREG | 0o644}})
	}
	check(t, f)
}

// Directories whose entries fill blocks to the last byte, or one byte less or more.
func TestDirectoriesThatEndAtABlock(t *testing.T) {
	f := newFixture(rand.New(rand.NewPCG(1, 1)), 0)
	for size := 4050; size < 4150; size++ {
		dir := &Inode{Mode: unix.S_IFDIR}
		for left := size - 2*direntSize - 3; left > direntSize; {
			n := min(left-direntSize, 40)
			if rest := left - direntSize - n; rest > 0 && rest <= direntSize {
				n -= direntSize
			}
			dir.Entries = append(dir.Entries, Dirent{fmt.Sprintf("%0*d", n, len(dir.Entries)), &Inode{Mode: unix.S_IFIFO}})
			left -= direntSize + n
		}
		f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint(size), dir})
	}
	check(t, f)
}

func TestInlineDataOfEverySizeAroundABlock(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := newFixture(r, 100)
	for size := 3950; size < BlockSize; size++ {
		small := &Inode{Mode: unix.S_IFREG, Size: int64(size), Inline: f.addInline(randomBytes(r, size))}
		long := &Inode{
			Mode: unix.S_IFREG, Size: int64(size) + 3*BlockSize, Inline: f.addInline(randomBytes(r, size)),
			Extents: []Extent{{Len: 3 * BlockSize, Block: uint64(1 + size%90)}},
			Xattrs:  []Xattr{{"user.x", make([]byte, size%200)}},
		}
		link := &Inode{Mode: unix.S_IFLNK, Target: strings.Repeat("l", size)}
		f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprintf("s%d", size), small}, Dirent{fmt.Sprintf("l%d", size), long}, Dirent{fmt.Sprintf("y%d", size), link})
	}
	check(t, f)
}

// Pieces of a file that lie on different devices, each at the block number at which the one before ends.
func TestPiecesWithConsecutiveBlocksOnDifferentDevices(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := newFixture(r, 0, 300, 300, 300)
	for _, blocks := range []int64{1, 4, 30, 70} {
		n := &Inode{Mode: unix.S_IFREG}
		block := uint64(5)
		for i := range 12 {
			n.Extents = append(n.Extents, Extent{Off: n.Size, Len: blocks * BlockSize, Device: uint16(1 + i%3), Block: block})
			n.Size += blocks * BlockSize
			block = (block + uint64(blocks)) % 200
		}
		f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint(blocks), n})
	}
	check(t, f)
}

func TestFilesOver4GiB(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := newFixture(r, 0, 300)
	// Only the first blocks hold data; the rest of the device is a hole in its file.
	f.opts.Devices[0].Blocks = 3 << 18
	add := func(name string, size int64, extents ...Extent) {
		f.root.Entries = append(f.root.Entries, Dirent{name, &Inode{Mode: unix.S_IFREG | 0o600, Size: size, Extents: extents}})
	}
	add("one piece of 3 GiB", 3<<30, Extent{Len: 3 << 30, Device: 1})
	add("end of one piece", 1<<30+77, Extent{Len: 1<<30 + 77, Device: 1, Block: 3<<18 - (1<<18 + 1)})
	add("sparse, 5 GiB, chunks of 1 GiB", 5<<30+1, Extent{Off: 1 << 30, Len: 1 << 30, Device: 1, Block: 20}, Extent{Off: 5 << 30, Len: 1, Device: 1, Block: 7})
	add("two pieces of 5 GiB", 5<<30, Extent{Len: 2 << 30, Device: 1}, Extent{Off: 2 << 30, Len: 3 << 30, Device: 1})
	add("two pieces with a border at 4 GiB + 64 KiB", 5<<30, Extent{Len: 2 << 30, Device: 1, Block: 9}, Extent{Off: 4<<30 + 64<<10, Len: 100 << 10, Device: 1, Block: 10})
	add("all hole, 1 TiB", 1<<40)
	check(t, f)
}

// fsck.erofs 1.5 and the kernel read attributes behind an inode across blocks.
func TestLargeXattrs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := newFixture(r, 20)
	for _, size := range []int{0, 1, 4000, 4008, 4009, 4096, 5000, 20000, 65535} {
		value := randomBytes(r, size)
		for name, n := range map[string]*Inode{
			"dir":    {Mode: unix.S_IFDIR, Entries: []Dirent{{"x", &Inode{Mode: unix.S_IFREG}}}},
			"inline": {Mode: unix.S_IFREG, Size: 10, Inline: f.addInline([]byte("0123456789"))},
			"tail":   {Mode: unix.S_IFREG, Size: 10 + BlockSize, Inline: f.addInline([]byte("0123456789")), Extents: []Extent{{Len: BlockSize, Block: 1}}},
			"hole":   {Mode: unix.S_IFREG, Size: 10 << 30},
			"link":   {Mode: unix.S_IFLNK, Target: "target"},
		} {
			n.Xattrs = []Xattr{{"trusted.v", value}}
			f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprintf("%s %d", name, size), n})
		}
	}
	many := &Inode{Mode: unix.S_IFREG}
	for i := range 3 {
		many.Xattrs = append(many.Xattrs, Xattr{fmt.Sprintf("security.%d", i), randomBytes(r, 65535)})
	}
	f.root.Entries = append(f.root.Entries, Dirent{"many", many})
	check(t, f)
}

func TestDeviceTableLargerThanABlock(t *testing.T) {
	for name, plain := range map[string]int{"metadata image": 0, "plain image": 9} {
		t.Run(name, func(t *testing.T) {
			devices := make([]int, 200)
			for i := range devices {
				devices[i] = 30
			}
			f := randomTree(rand.New(rand.NewPCG(2, 2)), 0, plain, devices...)
			for i := range devices {
				n := &Inode{Mode: unix.S_IFREG, Size: 5000, Extents: []Extent{{Len: 5000, Device: uint16(i + 1), Block: uint64(i % 20)}}}
				f.root.Entries = append(f.root.Entries, Dirent{fmt.Sprint(i), n})
			}
			image, _ := f.build(t)
			compare(t, f, fsView{f.open(t, image)})
			compare(t, f, openGo(t, f, image))
		})
	}
}

// An image and its devices, one behind the other in one file, is a valid image without devices.
func TestImageFollowedByItsDevicesIsFlat(t *testing.T) {
	f := randomTree(rand.New(rand.NewPCG(3, 3)), 300, 0, 200, 100)
	image, _ := f.build(t)
	for _, d := range f.devices {
		image = append(image, d...)
	}
	fsys, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, f, fsView{fsys})
	path, _ := f.save(t, image)
	compare(t, f, mount(t, path, nil))
}

// A metadata image that is mounted without its devices must not show metadata as the content of files. The kernel fails such reads, or before
// 6.12.80 and 7.0 reads zeros, because the flat addresses lie behind the image.
func TestMetadataImageAloneShowsNoWrongData(t *testing.T) {
	f := newFixture(rand.New(rand.NewPCG(1, 1)), 0, 100)
	f.root.Entries = []Dirent{{"x", &Inode{Mode: unix.S_IFREG, Size: 20000, Extents: []Extent{{Len: 20000, Device: 1}}}}}
	image, _ := f.build(t)
	path, _ := f.save(t, image)
	b, err := os.ReadFile(mount(t, path, nil).full("x"))
	if len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("read %d bytes that are nobody's (%v)", len(b), err)
	}
}

func TestSameTreeSameBytes(t *testing.T) {
	make := func(shuffle uint64) []byte {
		f := randomTree(rand.New(rand.NewPCG(4, 4)), 500, 100, 100)
		r := rand.New(rand.NewPCG(5, shuffle))
		f.each(func(_ string, n *Inode) {
			r.Shuffle(len(n.Entries), func(i, j int) { n.Entries[i], n.Entries[j] = n.Entries[j], n.Entries[i] })
			r.Shuffle(len(n.Xattrs), func(i, j int) { n.Xattrs[i], n.Xattrs[j] = n.Xattrs[j], n.Xattrs[i] })
		})
		image, _ := f.build(t)
		again, _ := f.build(t)
		if !bytes.Equal(image, again) {
			t.Error("a second Write of one tree gave other bytes")
		}
		return image
	}
	if !bytes.Equal(make(1), make(2)) {
		t.Error("the order of entries or attributes in the tree shows in the image")
	}
}
