package erofs

import (
	"bytes"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// victim is a small image with known contents, for tests that damage it.
func victim(t *testing.T) (*fixture, []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	f := newFixture(r, 0, 100)
	dir := &Inode{Mode: unix.S_IFDIR, Entries: []Dirent{{"inner", &Inode{Mode: unix.S_IFDIR}}}}
	f.root.Entries = []Dirent{
		{"dir", dir},
		{"inline", &Inode{Mode: unix.S_IFREG, Size: 9, Inline: f.addInline([]byte("some data"))}},
		{"chunked", &Inode{Mode: unix.S_IFREG, Size: 20000, Extents: []Extent{{Len: 8192, Device: 1, Block: 5}, {Off: 8192, Len: 12000, Device: 1, Block: 50}}}},
		{"link", &Inode{Mode: unix.S_IFLNK, Target: "dir/../inline"}},
		{"xattr", &Inode{Mode: unix.S_IFREG, Xattrs: []Xattr{{"user.x", []byte("value")}, {"user.y", []byte("value")}}}},
	}
	image, _ := f.build(t)
	return f, image
}

// inodeAt returns the bytes of a path's inode and what follows.
func inodeAt(t *testing.T, f *fixture, image []byte, name string) []byte {
	t.Helper()
	n, err := f.open(t, image).walk("test", name, false)
	if err != nil {
		t.Fatal(err)
	}
	return image[n.body-int64(n.XattrSize)-extendedSize:]
}

// Each case damages one field; the error must name the inode and what is wrong with it.
func TestDamagedImagesAreRefused(t *testing.T) {
	super := func(off int, put func(b []byte)) func(*testing.T, *fixture, []byte) {
		return func(_ *testing.T, _ *fixture, image []byte) { put(image[superOffset+off:]) }
	}
	at := func(name string, off int, put func(b []byte)) func(*testing.T, *fixture, []byte) {
		return func(t *testing.T, f *fixture, image []byte) { put(inodeAt(t, f, image, name)[off:]) }
	}
	u16 := func(v uint16) func([]byte) { return func(b []byte) { le.PutUint16(b, v) } }
	u32 := func(v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b, v) } }
	u64 := func(v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b, v) } }
	// Offsets: of fields in struct erofs_super_block, of fields in struct erofs_inode_extended, and from 64 on of what follows the inode.
	tests := []struct {
		name   string
		damage func(*testing.T, *fixture, []byte)
		want   string
	}{
		{"magic", super(0, u32(1)), "magic number 0x1"},
		{"48-bit image", super(80, u32(0x80)), "incompatible feature 0x80 (48BIT)"},
		{"unknown feature", super(80, u32(0x80000000)), "incompatible feature 0x80000000 (unknown)"},
		{"block size", super(12, u16(40)), "block size 2^40"},
		{"tiny blocks", super(12, u16(3)), "block size 2^3"},
		{"directory blocks", super(90, u16(1)), "directory block bits 1"},
		{"truncated", super(36, u32(1000)), "it is truncated"},
		{"device table behind the end", super(88, u16(0xffff)), "device table: bytes"},
		{"more devices than table", super(86, u16(0xffff)), "device table: bytes"},
		{"no device table", super(80, u32(incompatChunkedFile)), "1 extra devices given: the image uses none"},
		{"root out of range", super(14, u16(0xffff)), "nid 65535: not in an image"},
		{"root is a file", func(t *testing.T, f *fixture, image []byte) {
			n, err := f.open(t, image).walk("test", "inline", false)
			if err != nil {
				t.Fatal(err)
			}
			le.PutUint16(image[superOffset+14:], uint16(n.nid))
		}, "is not a directory's"},
		{"metadata area behind the end", super(40, u32(math.MaxUint32)), "not in an image"},

		{"unknown inode format", at("inline", 0, u16(1|layoutInline<<1|1<<4)), "i_format: bits 0x10"},
		{"unknown layout", at("inline", 0, u16(1|7<<1)), "data layout 7"},
		{"compressed", at("inline", 0, u16(1|layoutCompressedFull<<1)), "data is compressed (layout 1)"},
		{"file type", at("inline", 4, u16(0)), "i_mode: 0 has"},
		{"size", at("inline", 8, u64(1<<63)), "i_size: 9223372036854775808"},
		{"inline data longer than its block", at("inline", 8, u64(4095)), "inline data of 4095 bytes"},
		{"blocks behind the end", at("inline", 8, u64(4097)), "data at 0: offset"},
		{"blocks behind everything", at("inline", 8, u64(1<<62+1)), "data at 0: offset"},
		{"more xattrs than image", at("xattr", 2, u16(0xffff)), "i_xattr_icount: 262148 bytes"},
		{"more shared xattrs than area", at("xattr", 64+4, func(b []byte) { b[0] = 255 }), "255 shared ones"},
		{"shared xattr behind the end", func(t *testing.T, f *fixture, image []byte) {
			b := inodeAt(t, f, image, "xattr")[64:]
			b[4] = 1
			le.PutUint32(b[12:], math.MaxUint32)
		}, "shared xattr 0: bytes"},
		{"xattr longer than its area", at("xattr", 64+12+2, u16(0xffff)), "xattr 0: entry does not fit"},
		{"xattr of unknown prefix", at("xattr", 64+12+1, func(b []byte) { b[0] = 7 }), "name prefix 0x7"},
		{"xattr of hidden prefix", at("xattr", 64+12+1, func(b []byte) { b[0] = 0 }), "name prefix 0x0"},
		{"xattr twice", at("xattr", 64+24+4, func(b []byte) { b[0] = 'x' }), `xattr "user.x" is there twice`},
		{"xattr that the filter denies", at("xattr", 64, u32(math.MaxUint32)), `"user.x" is there, but the name filter`},
		{"xattr prefixes behind the end", func(_ *testing.T, _ *fixture, image []byte) {
			image[superOffset+91] = 1
			le.PutUint32(image[superOffset+92:], math.MaxUint32)
		}, "xattr prefix 0: bytes"},
		{"empty xattr prefix", func(_ *testing.T, _ *fixture, image []byte) { image[superOffset+91] = 1 }, "xattr prefix 0: length 0"},
		{"long xattr prefix", func(_ *testing.T, _ *fixture, image []byte) {
			image[superOffset+91] = 1
			le.PutUint16(image, 257)
		}, "xattr prefix 0: length 257"},
		{"digests without a prefix", super(8, u32(compatDigestXattrs)), "digests have xattr prefix 0 of 0"},
		{"digests with an unknown prefix", func(_ *testing.T, _ *fixture, image []byte) {
			le.PutUint32(image[superOffset+8:], compatDigestXattrs)
			image[superOffset+91] = 1
			copy(image, []byte{2, 0, 9, 'x'})
		}, "unknown number 9"},
		{"xattr prefix", at("xattr", 64+12+1, func(b []byte) { b[0] = 0x81 }), "name prefix 0x81"},

		{"chunk format", at("chunked", 16, u16(0x40)), "chunk format 0x40"},
		{"chunk map longer than the image", at("chunked", 8, u64(1<<40)), "chunk map of"},
		{"largest file in smallest chunks", func(t *testing.T, f *fixture, image []byte) {
			b := inodeAt(t, f, image, "chunked")
			le.PutUint64(b[8:], math.MaxInt64)
			le.PutUint16(b[16:], chunkIndexes)
		}, "chunk map of"},
		{"chunk on a device that is not there", at("chunked", 64+2, u16(2)), "data at 0: device 2 of 1"},
		{"chunk behind the end of its device", at("chunked", 64+4, u32(100)), "outside device 1 of 409600"},

		{"link target too long", at("link", 8, u64(4096)), "4096 bytes of link target"},
		{"link target empty", at("link", 8, u64(0)), "0 bytes of link target"},

		{"directory of no known layout", at("dir", 0, u16(1|layoutChunked<<1)), "data layout 4 of a directory"},
		{"directory larger than the image", at("dir", 8, u64(math.MaxInt64)), "data at"},
		{"first name offset", at("dir", 64+8, u16(13)), "name offsets are wrong"},
		{"no entries", at("dir", 64+8, u16(0)), "name offsets are wrong"},
		{"more entries than block", at("dir", 64+8, u16(60000)), "name offsets are wrong"},
		{"name offsets go backwards", at("dir", 64+12+8, u16(36)), "name offsets are wrong"},
		{"slash in a name", at("dir", 64+36+3, func(b []byte) { b[1] = '/' }), "a name is empty"},
		{"names out of order", at("dir", 64+36+3, func(b []byte) { b[0] = '!' }), "names are not sorted"},
		{"entry out of range", at("dir", 64+24, u64(math.MaxUint64)), "not in an image"},
		{"directory in itself", func(t *testing.T, f *fixture, image []byte) {
			b := inodeAt(t, f, image, "dir")[64:]
			copy(b[24:32], b[0:8])
		}, `but its ".." leads to`},
		{"loop through the root", func(t *testing.T, f *fixture, image []byte) {
			b := inodeAt(t, f, image, "dir")[64:]
			copy(b[24:32], b[12:20])
		}, "leads back to the root"},
		{"directory without a parent", at("dir/inner", 64+12+8+12-8+1, func(b []byte) { b[0] = 'x' }), "look for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, image := victim(t)
			tt.damage(t, f, image)
			sealSuper(image[:BlockSize])
			fsys, err := Open(bytes.NewReader(image), int64(len(image)), bytes.NewReader(f.devices[0]))
			if err == nil {
				_, err = readAll(fsys, 1<<20, io.Discard)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestChecksumIsVerified(t *testing.T) {
	f, image := victim(t)
	for _, off := range []int{superOffset + 50, BlockSize - 1} {
		image[off] ^= 1
		if _, err := Open(bytes.NewReader(image), int64(len(image))); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("byte %d flipped: error is %v", off, err)
		}
		image[off] ^= 1
	}
	if s := f.open(t, image).Super(); !s.Checksummed || s.Inodes != 7 || s.UUID != f.opts.UUID || len(s.Devices) != 1 || s.Devices[0] != f.opts.Devices[0] {
		t.Errorf("superblock: %+v", s)
	}
}

func TestTruncatedImagesAreRefused(t *testing.T) {
	_, image := victim(t)
	for size := range len(image) {
		if _, err := Open(bytes.NewReader(image[:size]), int64(size)); err == nil {
			t.Errorf("the first %d bytes of %d were accepted", size, len(image))
		}
		if _, err := Open(bytes.NewReader(image[:size]), int64(len(image))); err == nil && size < BlockSize {
			t.Errorf("an image that ends after %d bytes was accepted", size)
		}
	}
}

func TestMissingDeviceFailsOnlyItsData(t *testing.T) {
	f, image := victim(t)
	for name, devices := range map[string][]io.ReaderAt{"none": nil, "nil": {nil}} {
		fsys, err := Open(bytes.NewReader(image), int64(len(image)), devices...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := content(fsView{fsys}, "chunked", 20000); err == nil || !strings.Contains(err.Error(), "device is not available") {
			t.Errorf("%s: error is %v", name, err)
		}
		if b, err := content(fsView{fsys}, "inline", 9); err != nil || string(b) != "some data" {
			t.Errorf("%s: inline data is %q, %v", name, b, err)
		}
		got, err := fsys.Extents("chunked")
		for _, e := range f.root.Entries {
			if e.Name == "chunked" && (err != nil || len(got) != 2 || got[0] != e.Inode.Extents[0] || got[1].Block != 50 || got[1].Len != 20000-8192) {
				t.Errorf("%s: extents are %+v, %v", name, got, err)
			}
		}
	}
	if _, err := Open(bytes.NewReader(image), int64(len(image)), nil, nil); err == nil {
		t.Error("two devices for an image with one were accepted")
	}
}

// The kernel takes an address of the image itself that lies in a device's flat range as one of that device.
func TestFlatAddressesOnTheImageItself(t *testing.T) {
	f, image := victim(t)
	b := inodeAt(t, f, image, "chunked")[64:]
	flat := le.Uint32(image[superOffset+superSize+68:])
	if int64(flat) != int64(len(image)/BlockSize) {
		t.Fatalf("device 1 is at flat block %d of an image with %d bytes", flat, len(image))
	}
	for i := range 3 { // 20,000 bytes in chunks of 8 KiB
		le.PutUint16(b[i*chunkIndexSize+2:], 0)
		le.PutUint32(b[i*chunkIndexSize+4:], flat+le.Uint32(b[i*chunkIndexSize+4:]))
	}
	sealSuper(image[:BlockSize])
	compare(t, f, fsView{f.open(t, image)})
	path, devices := f.save(t, image)
	compare(t, f, mount(t, path, devices))
}
