package trace

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/profile"
)

// Inodes are the inodes that were touched in one mount, which Profile wants names for.
func (r *Recording) Inodes(device uint64) map[uint64]bool {
	inodes := make(map[uint64]bool)
	for c := range r.known {
		if c.device == device {
			inodes[c.inode] = true
		}
	}
	return inodes
}

// FilesOfMeta finds the wanted inodes in a metadata image of size bytes. A file with hard links gets the first of its names.
func FilesOfMeta(meta io.ReaderAt, size int64, wanted map[uint64]bool) (map[uint64]File, error) {
	image, err := erofs.Open(meta, size)
	if err != nil {
		return nil, fmt.Errorf("read the metadata image: %w", err)
	}
	root, err := image.Root()
	if err != nil {
		return nil, fmt.Errorf("read the metadata image: %w", err)
	}
	files := make(map[uint64]File)
	err = erofs.Visit(root, erofs.Visitor{Enter: func(path string, _ int, e erofs.Entry, h erofs.Handle, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		add(files, wanted, e.Ino, path, h.Stat().Mode, h.Stat().Size)
		return nil
	}})
	if err != nil {
		return nil, fmt.Errorf("look for touched files in the metadata image: %w", err)
	}
	return files, nil
}

// FilesOfMount finds the wanted inodes below a directory that the image is mounted on, and looks into no other file system.
func FilesOfMount(dir string, wanted map[uint64]bool) (map[uint64]File, error) {
	var top unix.Stat_t
	if err := unix.Stat(dir, &top); err != nil {
		return nil, fmt.Errorf("look for touched files in %s: %w", dir, err)
	}
	files := make(map[uint64]File)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: path, Err: err}
		}
		if st.Dev != top.Dev {
			return fs.SkipDir
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		add(files, wanted, st.Ino, name, st.Mode, st.Size)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for touched files in %s: %w", dir, err)
	}
	return files, nil
}

// add names a regular file, if it is wanted and has no name yet, unless a profile could not say its name.
func add(files map[uint64]File, wanted map[uint64]bool, inode uint64, path string, mode uint32, size int64) {
	if mode&unix.S_IFMT != unix.S_IFREG || !wanted[inode] {
		return
	}
	if _, ok := files[inode]; ok || len(path)+1 > profile.MaxPath {
		return
	}
	files[inode] = File{Path: "/" + strings.TrimPrefix(path, "./"), Size: size}
}
