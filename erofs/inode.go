package erofs

import "golang.org/x/sys/unix"

// BlockSize is the only block size this package writes. Over fscache the block size must equal the page size, and 4 KiB pages
// are what x86-64 and most arm64 kernels use.
const BlockSize = 4096

// Inode is one file, directory or special file of a tree that is to be written. A hard link is the same *Inode under several
// names. The fields after Mtime that apply depend on the type in Mode.
type Inode struct {
	Mode      uint32 // as st_mode: type bits (unix.S_IFMT) and permissions with setuid, setgid and sticky
	UID, GID  uint32
	Mtime     int64  // seconds since 1970-01-01 UTC, may be negative
	MtimeNsec uint32 // 0..999999999
	Xattrs    []Xattr

	Rdev    uint32   // character and block devices: see MakeRdev
	Target  string   // symbolic links, 1..4095 bytes
	Entries []Dirent // directories: without "." and ".."; the writer sorts them

	// Regular files: Size bytes. What neither Extents nor Inline cover is a hole. Digest is the SHA-256 of the content, nil if it is not
	// known, and is stored where WriteOptions.DigestXattr asks for it. It must be right: the kernel trusts it.
	Size    int64
	Extents []Extent
	Inline  Inline
	Digest  *[32]byte

	out placement // the writer's own bookkeeping
}

// Dirent is one name in a directory.
type Dirent struct {
	Name  string // 1..255 bytes, no '/' and no NUL; not "." or ".."
	Inode *Inode
}

// Xattr is one extended attribute with its full name, such as "security.capability" or "system.posix_acl_access". ACL values are in
// the form that getxattr(2) returns.
type Xattr struct {
	Name  string
	Value []byte
}

// Extent says that the file's bytes from Off lie in whole blocks on a device. Extents are sorted by Off, do not overlap, and begin at
// a multiple of BlockSize in the file; the last one may end past Size, up to the next multiple of BlockSize.
type Extent struct {
	Off    int64  // byte offset in the file, a multiple of BlockSize
	Len    int64  // bytes
	Device uint16 // 0 is the image itself, 1 the first extra device
	Block  uint64 // first block on that device
}

// Inline is data that is stored in the metadata: a range of [WriteOptions.InlineData]. It is the whole file when there are no extents, or the
// part after the last full block when there is exactly one extent, on device 0, that ends where the tail begins.
type Inline struct {
	Off int64 // byte offset in WriteOptions.InlineData
	Len int   // 0..BlockSize-1
}

// MakeRdev encodes a device number the way the kernel's new_encode_dev does.
func MakeRdev(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}

// SplitRdev is the inverse of [MakeRdev].
func SplitRdev(rdev uint32) (major, minor uint32) {
	return rdev >> 8 & 0xfff, rdev&0xff | rdev>>12&0xfff00
}

// IsDir reports whether the inode is a directory.
func (n *Inode) IsDir() bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports whether the inode is a regular file.
func (n *Inode) IsRegular() bool { return n.Mode&unix.S_IFMT == unix.S_IFREG }
