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
	const feature = "file-backed EROFS"
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return ProbeFailed(feature, dir, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(EmptyImage())
	if err = errors.Join(err, f.Close()); err != nil {
		return ProbeFailed(feature, dir, err)
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
			Needs:   NeedsDisk(dir, "Linux 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE"),
			Reason:  "the kernel wants a block device",
		}
	default:
		return ProbeFailed(feature, dir, err)
	}
}

// ProbeFailed is the error of a probe in dir that could not find anything out. Where there is no space for it, that says nothing of the kernel.
func ProbeFailed(feature, dir string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("it cannot be told whether the kernel has %s, for want of space in %s: %w", feature, dir, err)
	}
	return fmt.Errorf("probe %s in %s: %w", feature, dir, err)
}

// NeedsDisk says what something that was refused for a file in dir needs: another file system, if that is not one on which it can work, else what the kernel must have.
func NeedsDisk(dir, kernel string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return kernel
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return kernel
	}
	return fmt.Sprintf("a store on ext4, xfs or btrfs, not on the file system of %s (statfs type %#x)", dir, st.Type)
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
