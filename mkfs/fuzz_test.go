package mkfs

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/tartest"
)

// FuzzTar reads anything as a tar, as two layers, or as a layer by itself. It must end without a panic, and what is accepted must, once written, be readable.
func FuzzTar(f *testing.F) {
	seed := tartest.Archive(f,
		tartest.Directory("d", 0o755), tartest.File("d/f", "data"), tartest.File("d/.wh.f", ""), tartest.File("d/.wh..wh..opq", ""), tartest.Symlink("l", "d"), tartest.File("l/g", "x"), tartest.HardLink("h", "d/f"),
		device("w", 0), tartest.HardLink("d/f", "w"), tartest.File(".wh.l", ""), tartest.File("d/.wh..wh.x/y", ""),
		tartest.File(strings.Repeat("long/", 60)+"n", strings.Repeat("x", 600)),
		tartest.Member{Header: tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 1, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}, Format: tar.FormatPAX}, Data: "y"},
	)
	f.Add(seed, true)
	f.Add(seed[:700], false)
	f.Add(gzipped(f, seed), true)
	f.Add(make([]byte, 1024), false)
	f.Fuzz(func(t *testing.T, stream []byte, layers bool) {
		fuzzTree(t, stream, layers, false)
		if !layers {
			fuzzTree(t, stream, false, true)
		}
	})
}

func fuzzTree(t *testing.T, stream []byte, layers, overlay bool) {
	tree, err := New(Options{InlineLimit: DefaultInlineLimit, OverlayWhiteouts: overlay})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	sink := &countingSink{}
	if layers {
		if err = tree.ApplyLayer(context.Background(), bytes.NewReader(stream), sink); err == nil {
			err = tree.ApplyLayer(context.Background(), bytes.NewReader(stream), sink)
		}
	} else {
		err = tree.AddTar(context.Background(), bytes.NewReader(stream), sink)
	}
	if err != nil {
		return
	}
	if err := tree.Finish(Overrides{}); err != nil {
		t.Fatal(err)
	}
	var image memoryFile
	o := erofs.WriteOptions{InlineData: tree.InlineData(), Devices: []erofs.Device{{Tag: "data", Blocks: sink.blocks}}}
	if _, err := erofs.Write(&image, tree.Root(), o); err != nil {
		return // such as an ACL that is none: the format's own checks found it
	}
	fsys, err := erofs.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.ReadDir("."); err != nil {
		t.Fatal(err)
	}
}

// countingSink throws data away.
type countingSink struct{ blocks uint64 }

func (s *countingSink) Append(r io.Reader, size int64) (Ref, error) {
	ref := Ref(s.blocks)
	s.blocks += uint64(size+erofs.BlockSize-1) / erofs.BlockSize
	_, err := io.CopyN(io.Discard, r, size)
	return ref, err
}

func (s *countingSink) Place(r Ref) (uint16, uint64) { return 1, uint64(r) }

// memoryFile is an io.WriterAt that grows.
type memoryFile []byte

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(*f) {
		*f = append(*f, make([]byte, need-len(*f))...)
	}
	return copy((*f)[off:], p), nil
}
