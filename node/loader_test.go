package node

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pagein/pagein/erofs"
)

// imageOf makes a metadata image of files with data, by their paths, of which the n-th begins at block n of device 1, and of symbolic links ("path -> target").
func imageOf(t *testing.T, paths ...string) *erofs.FS {
	t.Helper()
	root := &erofs.Inode{Mode: 0o40755}
	for i, p := range paths {
		name, target, link := strings.Cut(p, " -> ")
		file := &erofs.Inode{Mode: 0o100755, Size: erofs.BlockSize, Extents: []erofs.Extent{{Len: erofs.BlockSize, Device: 1, Block: uint64(i)}}}
		if link {
			file = &erofs.Inode{Mode: 0o120777, Target: target}
		}
		put(root, name, file)
	}
	return opened(t, root)
}

// opened writes a metadata image with a device of 1 GiB, and opens it.
func opened(t *testing.T, root *erofs.Inode) *erofs.FS {
	t.Helper()
	meta, err := os.Create(filepath.Join(t.TempDir(), "meta"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { meta.Close() })
	stats, err := erofs.Write(meta, root, erofs.WriteOptions{Devices: []erofs.Device{{Tag: "data", Blocks: 1 << 18}}})
	if err != nil {
		t.Fatal(err)
	}
	image, err := erofs.Open(meta, stats.Size)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// put adds a file to a tree, with the directories above it.
func put(dir *erofs.Inode, name string, file *erofs.Inode) {
	first, rest, below := strings.Cut(name, "/")
	if !below {
		dir.Entries = append(dir.Entries, erofs.Dirent{Name: first, Inode: file})
		return
	}
	i := slices.IndexFunc(dir.Entries, func(e erofs.Dirent) bool { return e.Name == first })
	if i < 0 {
		i = len(dir.Entries)
		dir.Entries = append(dir.Entries, erofs.Dirent{Name: first, Inode: &erofs.Inode{Mode: 0o40755}})
	}
	put(dir.Entries[i].Inode, rest, file)
}

func TestLoaderAndCLibraryAreFoundWhereDistributionsHaveThem(t *testing.T) {
	for name, c := range map[string]struct {
		paths []string
		want  []string // among them
	}{
		"Debian": {
			[]string{
				"lib -> usr/lib", "lib64 -> usr/lib64", "usr/lib64/ld-linux-x86-64.so.2 -> /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
				"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libm.so.6",
			}, []string{"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"},
		},
		"Fedora": {[]string{"lib64 -> usr/lib64", "usr/lib64/ld-linux-x86-64.so.2", "usr/lib64/libc.so.6"}, []string{"usr/lib64/ld-linux-x86-64.so.2", "usr/lib64/libc.so.6"}},
		"older": {
			[]string{"lib64/ld-linux-x86-64.so.2 -> ld-2.31.so", "lib64/ld-2.31.so", "lib64/libc.so.6 -> libc-2.31.so", "lib64/libc-2.31.so"},
			[]string{"lib64/ld-2.31.so", "lib64/libc-2.31.so"},
		},
		"Alpine":          {[]string{"lib/ld-musl-x86_64.so.1", "lib/libc.musl-x86_64.so.1 -> ld-musl-x86_64.so.1", "bin/busybox"}, []string{"lib/ld-musl-x86_64.so.1"}},
		"static programs": {[]string{"app"}, nil},
		"endless link":    {[]string{"lib64/ld-linux-x86-64.so.2 -> ld-linux-x86-64.so.2"}, nil},
		"dead link":       {[]string{"lib64/ld-linux-x86-64.so.2 -> ../../../nowhere/ld"}, nil},
		"directory":       {[]string{"lib64/ld-linux-x86-64.so.2/file"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range loaderExtents(imageOf(t, c.paths...)) {
				got = append(got, c.paths[e.Block])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// TestALoaderIsNoReasonToFetchMuch has one of 1 GiB.
func TestALoaderIsNoReasonToFetchMuch(t *testing.T) {
	root := &erofs.Inode{Mode: 0o40755}
	put(root, loaders[0], &erofs.Inode{Mode: 0o100755, Size: 1 << 30, Extents: []erofs.Extent{{Len: 1 << 30, Device: 1}}})
	total := int64(0)
	for _, e := range loaderExtents(opened(t, root)) {
		total += e.Len
	}
	if total != maxLoader {
		t.Errorf("%d bytes would be fetched, want %d", total, maxLoader)
	}
}
