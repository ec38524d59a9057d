package kmount

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ProbeFileBacked finds out whether the kernel mounts EROFS straight from regular files in dir, by having it make (and drop) the superblock
// of a one-block image that is written there. Nothing is attached. The error is an [*UnsupportedError] when the kernel cannot.
func ProbeFileBacked(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("probe file-backed EROFS in %s: %w", dir, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(EmptyImage())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("probe file-backed EROFS in %s: %w", dir, err)
	}
	c, err := openForProbe()
	if err != nil {
		return err
	}
	defer c.close()
	if err = c.set("source", f.Name()); err == nil {
		err = c.create()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTBLK):
		return &UnsupportedError{
			Feature: "EROFS mounted from files in " + dir,
			Needs:   "Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE, and a directory on a disk file system, not an overlay",
			Reason:  "the kernel wants a block device",
		}
	default:
		return fmt.Errorf("probe file-backed EROFS in %s: %w", dir, err)
	}
}

// ProbeFscache finds out whether the kernel's EROFS reads from fscache, without a mount: it offers the option fsid and listens to what the
// kernel says. The error is an [*UnsupportedError] when it does not. Whether /dev/cachefiles can be used is another question.
func ProbeFscache() error {
	const feature = "EROFS over fscache"
	const needs = "Linux 5.19 to 7.1 with CONFIG_EROFS_FS_ONDEMAND"
	c, err := openForProbe()
	if err != nil {
		return err
	}
	defer c.close()
	err = unix.FsconfigSetString(c.fd, "fsid", "probe")
	said := strings.Join(c.messages(), "; ")
	switch {
	case errors.Is(err, unix.EINVAL):
		return &UnsupportedError{feature, needs, "the kernel does not know the mount option fsid"}
	case err != nil:
		return fmt.Errorf("probe %s: %w", feature, err)
	case said != "":
		// The option is accepted and ignored where the feature is compiled out.
		return &UnsupportedError{feature, needs, "the kernel says: " + said}
	}
	return nil
}

func openForProbe() (*fsContext, error) {
	c, err := openEROFS()
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil, &UnsupportedError{"EROFS", "CONFIG_EROFS_FS (Linux 5.4), or its module installed", "the kernel does not know the file system"}
	case err != nil:
		return nil, fmt.Errorf("probe EROFS: %w", err)
	}
	return c, nil
}

// EmptyImage returns the smallest image every EROFS kernel mounts: one 4096-byte block with a superblock and an empty root directory.
func EmptyImage() []byte {
	const (
		super   = 1024 // EROFS_SUPER_OFFSET
		rootNid = 40   // in units of 32 bytes, behind the superblock
		root    = rootNid * 32
		tail    = root + 32 // inline data follows the compact inode
		dirent  = 12
	)
	le := binary.LittleEndian
	b := make([]byte, 4096)
	le.PutUint32(b[super:], 0xE0F5E1E2) // magic
	b[super+12] = 12                    // log2 of the block size
	le.PutUint16(b[super+14:], rootNid)
	le.PutUint64(b[super+16:], 1) // inodes
	le.PutUint32(b[super+36:], 1) // blocks

	le.PutUint16(b[root:], 2<<1)                // compact, FLAT_INLINE
	le.PutUint16(b[root+4:], unix.S_IFDIR|0755) // mode
	le.PutUint16(b[root+6:], 2)                 // links
	le.PutUint32(b[root+8:], 2*dirent+3)        // size: two entries and "." ".."
	le.PutUint32(b[root+16:], 0xFFFFFFFF)       // no full block
	le.PutUint32(b[root+20:], 1)                // inode number

	for i, nameOff := range []uint16{2 * dirent, 2*dirent + 1} {
		e := b[tail+i*dirent:]
		le.PutUint64(e, rootNid)
		le.PutUint16(e[8:], nameOff)
		e[10] = 2 // directory
	}
	copy(b[tail+2*dirent:], "...")
	return b
}
