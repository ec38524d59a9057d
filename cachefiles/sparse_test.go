package cachefiles

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/ondemand"
)

// TestSparseFilesReadRight is about a defect of EROFS over fscache, seen on 6.1.192 and 6.12.117 (erofs_fscache_data_read_slice in
// fs/erofs/fscache.c): from the first chunk without blocks on, it gives zeros for all the rest of a request, data behind the hole included. So a hole that data
// follows must be mapped to stored zeros; many holes can share them. A hole at the end of a file does no harm.
func TestSparseFilesReadRight(t *testing.T) {
	require.Guest(t)
	const zeros = 64 * kib
	text := newBlob(t, 17, 3*blockSize, 5000).files
	head, tail := text[0].data, text[1].data
	b := pack(t, head, make([]byte, zeros), tail)

	const hole = 25 * blockSize
	inner := append(append(bytes.Clone(head), make([]byte, hole)...), tail...)
	at := int64(len(head))
	extents := []erofs.Extent{
		{Off: 0, Len: at, Device: 1, Block: b.files[0].block},
		{Off: at, Len: zeros, Device: 1, Block: b.files[1].block},
		{Off: at + zeros, Len: hole - zeros, Device: 1, Block: b.files[1].block},
		{Off: at + hole, Len: int64(len(tail)), Device: 1, Block: b.files[2].block},
	}
	trailing := append(bytes.Clone(head), make([]byte, 200*kib)...)
	allHole := make([]byte, 300*kib)
	want := map[string][]byte{"inner": inner, "trailing": trailing, "empty": allHole}
	file := func(size int, e ...erofs.Extent) *erofs.Inode {
		return &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: int64(size), Extents: e}
	}
	img := writeImage(t, "sparse", []erofs.Dirent{
		{Name: "inner", Inode: file(len(inner), extents...)},
		{Name: "trailing", Inode: file(len(trailing), extents[0])},
		{Name: "empty", Inode: file(len(allHole))},
	}, b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	dir := d.mount(img)
	for name, data := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d of %d bytes, %v; content is wrong", name, len(got), len(data), err)
		}
	}
}
