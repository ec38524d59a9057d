package view

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/ondemand/backend"
)

// memoryObject is a source object in memory.
type memoryObject []byte

func (o memoryObject) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n <= 0 || off > int64(len(o))-n {
		return nil, io.ErrUnexpectedEOF
	}
	return io.NopCloser(bytes.NewReader(o[off : off+n])), nil
}

func (o memoryObject) Size() int64  { return int64(len(o)) }
func (memoryObject) String() string { return "object in memory" }

// memoryView is a view whose one blob is there already. Where the map says that its sources are other than the object, it gets the object for each.
func memoryView(t testing.TB, m *blob.Map, object []byte) *View {
	t.Helper()
	v, err := Open(t.Context(), artifact.Place{}, &artifact.Artifact{Name: "fuzz", Blobs: make([]artifact.Blob, 1)}, Options{Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	b := loadedBlob{m: m}
	for range m.Sources() {
		b.objects = append(b.objects, memoryObject(object))
	}
	v.devices[0].load = func() (loadedBlob, error) { return b, nil }
	return v
}

// seedView is a metadata image with a file on a device, and the map and the object of its blob.
func seedView(t testing.TB) (meta, rawMap, object []byte) {
	t.Helper()
	var buf bytes.Buffer
	w := blob.NewWriter(context.Background(), &buf, blob.WriterOptions{})
	data := bytes.Repeat([]byte("some content "), 20_000)
	ref, err := w.Append(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	file := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: int64(len(data)), Extents: []erofs.Extent{{Len: int64(len(data)), Device: 1, Block: w.Block(ref)}}}
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{{Name: "file", Inode: file}}}
	var img memoryImage
	stats, err := erofs.Write(&img, root, erofs.WriteOptions{Devices: []erofs.Device{{Tag: m.ID(), Blocks: uint64(m.Size()) / blob.BlockSize}}})
	if err != nil {
		t.Fatal(err)
	}
	return img[:stats.Size], m.Bytes(), buf.Bytes()
}

// memoryImage is an io.WriterAt.
type memoryImage []byte

func (m *memoryImage) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(*m) {
		*m = append(*m, make([]byte, need-len(*m))...)
	}
	return copy((*m)[off:], p), nil
}

var errEnough = errors.New("read enough")

// FuzzView reads a hostile tree through a hostile map: whatever comes out of a blob has the digest that the map says, and nothing panics or hangs.
func FuzzView(f *testing.F) {
	meta, rawMap, object := seedView(f)
	f.Add(meta, rawMap, object)
	f.Add(meta[:1024], rawMap[:64], object[:3])
	f.Fuzz(func(t *testing.T, meta, rawMap, object []byte) {
		meta, rawMap = bytes.Clone(meta), bytes.Clone(rawMap)
		withoutChecksums(meta, rawMap)
		m, err := blob.Parse(rawMap)
		if err != nil || m.Size() > 64<<20 {
			return
		}
		v := memoryView(t, m, object)
		checkFrames(t, v, m)
		tree, err := erofs.Open(bytes.NewReader(meta), int64(len(meta)), v.readers()...)
		if err != nil {
			return
		}
		root, err := tree.Root()
		if err != nil {
			return
		}
		visits := 0
		buf := make([]byte, 300_000)
		_ = erofs.Visit(root, erofs.Visitor{Enter: func(_ string, _ int, _ erofs.Entry, h erofs.Handle, err error) error {
			if visits++; visits > 200 {
				return errEnough
			}
			if err != nil || h.Stat().Mode&unix.S_IFMT != unix.S_IFREG {
				return nil
			}
			_, _ = h.ReadAt(buf, 0)
			_, _ = h.ReadAt(buf, max(0, h.Stat().Size-1000))
			if extents, err := h.Extents(); err == nil {
				for _, e := range extents[:min(len(extents), 10)] {
					if n, _ := v.Zero(e, e.Off); n < 1 || n > e.Len {
						t.Errorf("%d bytes of an extent of %d are of one kind", n, e.Len)
					}
				}
			}
			return nil
		}})
	})
}

// withoutChecksums makes checksums fit, which a fuzzer could not.
func withoutChecksums(meta, rawMap []byte) {
	if len(meta) > 1024+8 {
		meta[1024+8] &^= 1 // SB_CHKSUM of the superblock
	}
	if len(rawMap) >= 64 {
		table := crc32.MakeTable(crc32.Castagnoli)
		binary.LittleEndian.PutUint32(rawMap[60:], crc32.Update(crc32.Checksum(rawMap[:60], table), table, rawMap[64:]))
	}
}

// checkFrames reads the first frames one by one.
func checkFrames(t *testing.T, v *View, m *blob.Map) {
	t.Helper()
	for i := range min(m.Frames(), 8) {
		f := m.Frame(i)
		b := make([]byte, f.Len)
		n, err := v.devices[0].ReadAt(b, f.Off)
		if err == nil && sha256.Sum256(b) != f.Digest || err != nil && n > 0 {
			t.Fatalf("frame %d: %d bytes, %v", i, n, err)
		}
	}
}

var _ backend.Object = memoryObject(nil)
