// Package erofs writes and reads EROFS images, the read-only file system that the Linux kernel mounts directly.
//
// [Write] takes a tree of [Inode] values and produces either a plain image, whose file data the caller has already put into its first
// blocks, or a metadata image, which holds inodes, names, attributes and chunk indexes while the data lies on extra devices. [Open] reads
// images of this and of other writers through io/fs; it is meant for untrusted input.
//
// The idea to hold in mind: everything in an image is addressed in blocks of [BlockSize] bytes, an inode's number (its nid) is its position
// in the metadata area divided by 32, and a small file's data may lie directly behind its inode. The package knows the on-disk format and
// nothing else: no OCI, no blob maps, no compression.
//
// The format is that of Linux's fs/erofs/erofs_fs.h. Only what kernels since 5.16 understand is written: 4096-byte blocks, extended inodes,
// and the incompatible features CHUNKED_FILE and DEVICE_TABLE where they are needed. Content digests are the exception: they need 6.4.
//
// Attributes that several inodes have are stored once, and a filter of their names spares Linux 6.6 and later a search for what is not there.
// Inodes lie together by kind, so that a metadata image compresses well: to some 12 bytes an inode, names and small files not counted.
//
// A writer without a converter around it puts file data where it wants, on devices or into the first blocks of the image, and says where it is:
// see the example of [Write].
package erofs
