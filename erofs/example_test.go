package erofs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"log"
	"os"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
)

// A plain image holds its own file data: the caller writes it to blocks from 1 on, and Write puts the metadata behind it. Files below a block are better
// stored inline, with their inode.
func ExampleWrite() {
	image, err := os.CreateTemp("", "image")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(image.Name())
	defer image.Close()

	large := bytes.Repeat([]byte("data"), 3000)
	if _, err := image.WriteAt(large, 1*erofs.BlockSize); err != nil {
		log.Fatal(err)
	}
	small := []byte("hello\n")
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{
		{Name: "large", Inode: &erofs.Inode{
			Mode: unix.S_IFREG | 0o644, Size: int64(len(large)),
			Extents: []erofs.Extent{{Len: int64(len(large)), Block: 1}},
		}},
		{Name: "small", Inode: &erofs.Inode{
			Mode: unix.S_IFREG | 0o644, Size: int64(len(small)),
			Inline: erofs.Inline{Off: 0, Len: len(small)},
			Xattrs: []erofs.Xattr{{Name: "user.note", Value: []byte("inline")}},
		}},
		{Name: "link", Inode: &erofs.Inode{Mode: unix.S_IFLNK | 0o777, Target: "small"}},
	}}
	stats, err := erofs.Write(image, root, erofs.WriteOptions{MetaBlock: 4, InlineData: bytes.NewReader(small)})
	if err != nil {
		log.Fatal(err)
	}

	fsys, err := erofs.Open(image, stats.Size)
	if err != nil {
		log.Fatal(err)
	}
	b, err := fs.ReadFile(fsys, "link")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d blocks, %d inodes\n%s", stats.Size/erofs.BlockSize, stats.Inodes, b)
	// Output:
	// 5 blocks, 4 inodes
	// hello
}
