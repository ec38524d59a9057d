package cutdisk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// fileName is the name of the one file in the file system that is served.
const fileName = "disk"

// serve is the server's process: it serves the disk below dir, says that it is there, and does as it is told on stdin until that ends. Whoever started it unmounts.
func serve(dir, image string) error {
	d, err := load(image)
	if err != nil {
		return err
	}
	root := &fs.Inode{}
	_, err = fs.Mount(dir, root, &fs.Options{
		OnAdd: func(ctx context.Context) {
			root.AddChild(fileName, root.NewPersistentInode(ctx, &file{disk: d}, fs.StableAttr{Mode: syscall.S_IFREG}), true)
		},
		MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxWrite: 512 << 10, FsName: "cutdisk", DisableXAttrs: true},
	})
	if err != nil {
		return fmt.Errorf("serve a disk at %s: %w", dir, err)
	}
	fmt.Println("ok")
	s := server{disk: d}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := s.obey(in.Text())
		if err != nil {
			return fmt.Errorf("command %q: %w", in.Text(), err)
		}
		fmt.Println("ok", n)
	}
	return nil
}

// server is a disk with the last cut of its power.
type server struct {
	*disk
	left map[int64]sector
}

// obey does what a line says: "cut SEED", "save PATH" of what that left, or "spoil TEXT".
func (s *server) obey(line string) (n int, err error) {
	verb, arg, _ := strings.Cut(line, " ")
	if verb == "cut" {
		seed, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return 0, err
		}
		s.left, n = s.cut(seed)
		return n, nil
	}
	text, err := strconv.Unquote(arg)
	switch {
	case err != nil:
		return 0, err
	case verb == "spoil":
		return s.spoil(text), nil
	case verb == "save":
		return 0, save(s.left, s.size, text)
	}
	return 0, errors.New("unknown")
}

// file is the disk as a file.
type file struct {
	fs.Inode
	disk *disk
}

var (
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeSetattrer = (*file)(nil)
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
	_ fs.NodeWriter    = (*file)(nil)
	_ fs.NodeFsyncer   = (*file)(nil)
)

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, uint64(f.disk.size)
	return 0
}

// Setattr changes nothing, and claims success: mkfs sets the times of what it writes to.
func (f *file) Setattr(ctx context.Context, h fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return f.Getattr(ctx, h, out)
}

// Open has the kernel pass on every read and write as it is made.
func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *file) Read(_ context.Context, _ fs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := f.disk.ReadAt(p, off)
	if errors.Is(err, errBad) {
		return nil, syscall.EIO
	} // else it is the end, where there is nothing
	return fuse.ReadResultData(p[:n]), 0
}

func (f *file) Write(_ context.Context, _ fs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	if off%sectorSize != 0 || len(p)%sectorSize != 0 || off+int64(len(p)) > f.disk.size {
		return 0, syscall.EINVAL
	}
	f.disk.write(p, off)
	return uint32(len(p)), 0
}

func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.flush()
	return 0
}
