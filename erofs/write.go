package erofs

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxDevices    = 65535
	maxVolumeName = 15 // kernels before 6.15 want a NUL in the 16-byte field
	maxTag        = 64 // may fill the field
)

// WriteOptions are the parameters of [Write] beside the tree. The zero value makes a metadata image without devices.
type WriteOptions struct {
	UUID          [16]byte
	VolumeName    string // up to 15 bytes, no NUL
	BuildTime     int64  // seconds since 1970-01-01 UTC
	BuildTimeNsec uint32 // 0..999999999

	// Devices are the extra devices, numbered from 1 in this order, at most 65535.
	Devices []Device

	// MetaBlock is the first block that is free for metadata. 0 makes a metadata image, in which everything starts in block 0. In a plain
	// image the caller has written file data to blocks 1 to MetaBlock-1, and Write touches only block 0 and the blocks from MetaBlock on.
	MetaBlock uint64

	// InlineData holds the bytes that [Inode.Inline] refers to.
	InlineData io.ReaderAt

	// DigestXattr is the name of the attribute that [Inode.Digest] is stored in, usually [DefaultDigestXattr]. Linux 7.0 and later, when mounting
	// with -o inode_share, keep one copy in memory of files with the same digest. "" stores no digests. An image with digests
	// needs Linux 6.4 or later. A name in user., trusted. or security. can be seen by programs, and the tree's own attributes must not have it.
	DigestXattr string
}

// Device is one extra device.
type Device struct {
	Tag    string // up to 64 bytes, no NUL; names the device, and over fscache it is the cookie's key
	Blocks uint64 // length in blocks
}

// Stats says what [Write] made.
type Stats struct {
	Size      int64  // length of the image in bytes, a multiple of BlockSize
	MetaBytes int64  // of these, the bytes that Write itself wrote
	Padding   int64  // of these, the bytes lost because an inode with its inline data must lie in one block
	Inodes    uint64 // hard links to one inode count once
}

// Write writes an image of the tree below root. It sorts the Entries and Xattrs of the tree's inodes in place and needs the tree for itself
// while it runs. w is written in ascending order, in large pieces; bytes that are written need not be zero before. The same tree and
// options give the same bytes. An error leaves a useless image behind.
func Write(w io.WriterAt, root *Inode, o WriteOptions) (Stats, error) {
	stats, err := write(w, root, &o)
	if err != nil {
		return Stats{}, fmt.Errorf("write EROFS image: %w", err)
	}
	return stats, nil
}

func write(w io.WriterAt, root *Inode, o *WriteOptions) (Stats, error) {
	if err := o.check(); err != nil {
		return Stats{}, err
	}
	digest, err := newDigestPrefix(o.DigestXattr)
	if err != nil {
		return Stats{}, err
	}
	t := tree{o: o, digest: digest}
	defer t.release()
	if err := t.collect(root); err != nil {
		return Stats{}, err
	}
	if err := t.group(); err != nil {
		return Stats{}, err
	}
	img, err := t.arrange()
	if err != nil {
		return Stats{}, err
	}
	if err := img.emit(w); err != nil {
		return Stats{}, err
	}
	return Stats{
		Size:      img.blocks * BlockSize,
		MetaBytes: img.blocks*BlockSize - int64(max(o.MetaBlock, 1)-1)*BlockSize,
		Padding:   img.padding,
		Inodes:    uint64(len(t.nodes)),
	}, nil
}

func (o *WriteOptions) check() error {
	if len(o.VolumeName) > maxVolumeName || strings.IndexByte(o.VolumeName, 0) >= 0 {
		return fmt.Errorf("volume name %q: want at most %d bytes without NUL", o.VolumeName, maxVolumeName)
	}
	if o.BuildTimeNsec > 999999999 {
		return fmt.Errorf("build time: %d nanoseconds are more than a second", o.BuildTimeNsec)
	}
	if len(o.Devices) > maxDevices {
		return fmt.Errorf("%d extra devices: the format has room for %d", len(o.Devices), maxDevices)
	}
	for i, d := range o.Devices {
		if len(d.Tag) > maxTag || strings.IndexByte(d.Tag, 0) >= 0 {
			return fmt.Errorf("tag %q of device %d: want at most %d bytes without NUL", d.Tag, i+1, maxTag)
		}
		if d.Blocks > maxBlocks {
			return fmt.Errorf("device %d has %d blocks: the format has room for %d", i+1, d.Blocks, uint64(maxBlocks))
		}
	}
	if o.MetaBlock >= maxBlocks {
		return errors.New("metadata would begin behind the last block number")
	}
	return nil
}
