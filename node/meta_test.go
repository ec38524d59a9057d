package node

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci/artifact"
)

// sampleMeta is a small metadata image whose data is on another device.
func sampleMeta(t *testing.T) []byte {
	t.Helper()
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{
		{Name: "data", Inode: &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: 12000, Extents: []erofs.Extent{{Len: 12000, Device: 1, Block: 5}}}},
		{Name: "link", Inode: &erofs.Inode{Mode: unix.S_IFLNK | 0o777, Target: "data"}},
	}}
	f, err := os.Create(filepath.Join(t.TempDir(), "meta"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stats, err := erofs.Write(f, root, erofs.WriteOptions{MetaBlock: 0, Devices: []erofs.Device{{Tag: strings.Repeat("a", 64), Blocks: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, stats.Size)
	if _, err := f.ReadAt(image, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return image
}

// The superblock, its length up to the end of its block, and fields in it.
const (
	superAt       = 1024
	superChecksum = superAt + 4
	superCompat   = superAt + 8
	superBits     = superAt + 12
	superIncompat = superAt + 80
)

// seal makes the superblock's checksum right.
func seal(image []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(image[superChecksum:], 0)
	binary.LittleEndian.PutUint32(image[superChecksum:], ^crc32.Update(0, table, image[superAt:4096]))
}

func TestImagesOfAbsurdlyManyBlobsAreRefused(t *testing.T) {
	if err := checkNumber(&artifact.Artifact{Blobs: make([]artifact.Blob, maxDevices)}); err != nil {
		t.Error(err)
	}
	if err := checkNumber(&artifact.Artifact{Blobs: make([]artifact.Blob, maxDevices+1)}); control.ClassOf(err) != control.Invalid {
		t.Errorf("error is %v", err)
	}
}

// TestTheKernelSeesOnlyMetadataOfOurKind damages an image in ways that the digests of whoever made it do not tell.
func TestTheKernelSeesOnlyMetadataOfOurKind(t *testing.T) {
	sound := sampleMeta(t)
	if super, err := readMeta(t.Context(), bytes.NewReader(sound), int64(len(sound)), true); err != nil || len(super.Devices) != 1 {
		t.Fatalf("a sound image is refused: %v", err)
	}
	layout := bytes.Index(sound, []byte("data")) // a name in the root's block
	if layout < 0 {
		t.Fatal("the image has no name")
	}
	for name, c := range map[string]struct {
		damage func(image []byte)
		all    bool // seen only where all is checked
		says   string
	}{
		"decompressors":     {func(b []byte) { b[superIncompat] |= 0x1 }, false, "LZ4_0PADDING"},
		"compression table": {func(b []byte) { b[superIncompat] |= 0x2 }, false, "COMPR_CFGS"},
		"name prefixes":     {func(b []byte) { b[superIncompat] |= 0x40 }, false, "XATTR_PREFIXES"},
		"48 bits":           {func(b []byte) { b[superIncompat] |= 0x80 }, false, "48BIT"},
		"no checksum":       {func(b []byte) { b[superCompat] &^= 0x1 }, false, "no checksum"},
		"odd blocks":        {func(b []byte) { b[superBits] = 9 }, false, ""},
		"name with a slash": {func(b []byte) { b[layout+1] = '/' }, true, ""},
	} {
		image := bytes.Clone(sound)
		c.damage(image)
		seal(image)
		_, err := readMeta(t.Context(), bytes.NewReader(image), int64(len(image)), c.all)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error is %v, want one that says %q", name, err, c.says)
		}
		if !c.all {
			continue
		}
		if _, err := readMeta(t.Context(), bytes.NewReader(image), int64(len(image)), false); err != nil {
			t.Errorf("%s: %v without looking at all", name, err)
		}
	}
}
