package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
)

// FS is an open image. It implements [fs.FS], [fs.ReadDirFS], [fs.ReadLinkFS] and [fs.StatFS], and its methods may be called concurrently.
//
// Paths are those of io/fs, with one difference: names need not be valid UTF-8, because names in an image are bytes. [fs.ValidPath] is
// therefore not the rule, and a path that [fs.FS.ReadDir] leads to can always be opened. Symbolic links are followed inside the image as if
// it were mounted at "/": absolute targets begin at the root, and ".." at the root stays there.
//
// A directory is reached only through the parent that its ".." names. Trees made of loops are thereby finite for every walker. Sizes are what the
// image claims, and a few bytes can claim a sparse file of 2^62: read files of untrusted images in pieces, not with [fs.ReadFile].
type FS struct {
	r       io.ReaderAt
	size    int64
	super   superblock
	bits    uint8 // log2 of the block size
	devices []device
	info    Super

	prefixes []xattrPrefix // the image's own table
	digest   *xattrPrefix  // the one of digests, nil if there are none
}

// device is an extra device as far as it can be read: through a reader of its own, or at an offset of the image. With neither, r is nil.
type device struct {
	r    io.ReaderAt
	base int64 // in r
	size int64 // in bytes
	flat int64 // byte offset of the device in the flat address space, 0 if it has none
}

// Super is what an image says about itself.
type Super struct {
	UUID          [16]byte
	VolumeName    string
	BlockSize     int
	Blocks        uint64 // of the image itself, without its extra devices
	Inodes        uint64
	BuildTime     int64 // seconds since 1970-01-01 UTC
	BuildTimeNsec uint32
	Compat        uint32   // features that a reader may ignore
	Incompat      uint32   // features that a reader must know
	Checksummed   bool     // there is a checksum; Open has verified it
	Devices       []Device // Devices[0] is device 1
	DigestXattr   string   // name of the attribute that holds content digests, "" if there are none
}

// Open reads the superblock and device table of the image in the first size bytes of r. devices are the extra devices in the order of the
// device table; there may be fewer, or nil ones, and reading data of a device that is missing is then an error. Nothing about the image
// is trusted: what cannot be right is an error when it is met, not necessarily here.
func Open(r io.ReaderAt, size int64, devices ...io.ReaderAt) (*FS, error) {
	fsys := &FS{r: r, size: size}
	if err := fsys.readSuper(); err != nil {
		return nil, fmt.Errorf("open EROFS image: %w", err)
	}
	if err := fsys.readDevices(devices); err != nil {
		return nil, fmt.Errorf("open EROFS image: %w", err)
	}
	if err := fsys.readPrefixes(); err != nil {
		return nil, fmt.Errorf("open EROFS image: %w", err)
	}
	if fsys.digest != nil {
		fsys.info.DigestXattr = xattrNames[fsys.digest.base] + fsys.digest.infix
	}
	root, err := fsys.inode(fsys.root())
	if err != nil {
		return nil, fmt.Errorf("open EROFS image: root: %w", err)
	}
	if !root.isDir() {
		return nil, fmt.Errorf("open EROFS image: root: %w", root.errorf("mode %#o is not a directory's", root.Mode))
	}
	return fsys, nil
}

// Super returns what the superblock and the device table say.
func (fsys *FS) Super() Super {
	s := fsys.info
	s.Devices = append([]Device(nil), s.Devices...)
	return s
}

func (fsys *FS) root() uint64 { return uint64(fsys.super.RootNid) }

func (fsys *FS) blockSize() int64 { return 1 << fsys.bits }

// readMeta fills b from the image. Everything outside the image is refused before it is read.
func (fsys *FS) readMeta(b []byte, off uint64) error {
	if off > uint64(fsys.size) || uint64(len(b)) > uint64(fsys.size)-off {
		return fmt.Errorf("bytes %d to %d are outside an image of %d", off, off+uint64(len(b)), fsys.size)
	}
	if n, err := fsys.r.ReadAt(b, int64(off)); n < len(b) {
		return fmt.Errorf("read %d bytes at %d: %w", len(b), off, unexpected(err))
	}
	return nil
}

func (fsys *FS) readSuper() error {
	b := make([]byte, superSize)
	if err := fsys.readMeta(b, superOffset); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	if magic := le.Uint32(b); magic != superMagic {
		return fmt.Errorf("it is no EROFS image: superblock: magic number %#x, want %#x", magic, uint32(superMagic))
	}
	s := &fsys.super
	s.decode(b)
	fsys.bits = s.BlockBits
	if err := s.check(fsys.size); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	if err := fsys.verifySuper(); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	fsys.info = Super{
		UUID:          s.UUID,
		VolumeName:    cString(s.VolumeName[:]),
		BlockSize:     1 << s.BlockBits,
		Blocks:        uint64(s.Blocks),
		Inodes:        s.Inodes,
		BuildTime:     s.BuildTime,
		BuildTimeNsec: s.BuildTimeNsec,
		Compat:        s.Compat,
		Incompat:      s.Incompat,
		Checksummed:   s.Compat&compatChecksum != 0,
	}
	return nil
}

// check refuses what this reader does not know.
func (s *superblock) check(size int64) error {
	const known = incompatZeroPadding | incompatComprCfgs | incompatChunkedFile | incompatDeviceTable | incompatLongPrefixes
	if unknown := s.Incompat &^ known; unknown != 0 {
		return fmt.Errorf("incompatible feature %#x (%s) is not supported", unknown&-unknown, incompatName(unknown&-unknown))
	}
	switch {
	case s.BlockBits < 9 || s.BlockBits > 16:
		return fmt.Errorf("block size 2^%d: want 2^9 to 2^16", s.BlockBits)
	case s.DirBlockBits != 0:
		return fmt.Errorf("directory block bits %d are not supported", s.DirBlockBits)
	case int64(s.Blocks)<<s.BlockBits > size:
		return fmt.Errorf("%d blocks of 2^%d bytes do not fit into the image's %d bytes: it is truncated", s.Blocks, s.BlockBits, size)
	}
	return nil
}

func (fsys *FS) verifySuper() error {
	if fsys.super.Compat&compatChecksum == 0 {
		return nil
	}
	n := fsys.blockSize()
	if n > superOffset {
		n -= superOffset
	}
	b := make([]byte, n)
	if err := fsys.readMeta(b, superOffset); err != nil {
		return err
	}
	if got := superChecksum(b); got != fsys.super.Checksum {
		return fmt.Errorf("checksum is %#08x, the superblock says %#08x", got, fsys.super.Checksum)
	}
	return nil
}

func (fsys *FS) readDevices(readers []io.ReaderAt) error {
	if fsys.super.Incompat&incompatDeviceTable == 0 {
		if len(readers) > 0 {
			return fmt.Errorf("%d extra devices given: the image uses none", len(readers))
		}
		return nil
	}
	count := int(fsys.super.ExtraDevices)
	if len(readers) > count {
		return fmt.Errorf("%d extra devices given: the image uses %d", len(readers), count)
	}
	table := make([]byte, count*deviceSlotSize)
	if err := fsys.readMeta(table, uint64(fsys.super.DeviceSlot)*deviceSlotSize); err != nil {
		return fmt.Errorf("device table: %w", err)
	}
	fsys.devices = make([]device, count)
	fsys.info.Devices = make([]Device, count)
	for i := range count {
		var slot deviceSlot
		slot.decode(table[i*deviceSlotSize:])
		fsys.info.Devices[i] = Device{Tag: cString(slot.Tag[:]), Blocks: uint64(slot.Blocks)}
		d := device{flat: int64(slot.UniAddr) << fsys.bits, size: int64(slot.Blocks) << fsys.bits}
		switch {
		case i < len(readers) && readers[i] != nil:
			d.r = readers[i]
			if slot.Blocks == 0 {
				d.size = math.MaxInt64 // mkfs.erofs 1.5 does not say how long its --blobdev is
			}
		case d.flat > 0 && d.flat+d.size <= fsys.size:
			d.r, d.base = fsys.r, d.flat
		}
		fsys.devices[i] = d
	}
	return nil
}

// errNoDevice is the cause when data lies on a device that Open was not given.
var errNoDevice = errors.New("device is not available")

// resolve finds the bytes at off of a device: the reader, where in it they are, and how many bytes from there belong to the device. It
// follows the kernel: device 0 addresses inside an extra device's flat range belong to that device.
func (fsys *FS) resolve(id uint16, off int64) (io.ReaderAt, int64, int64, error) {
	if off < 0 {
		return nil, 0, 0, errors.New("offset does not fit into 63 bits")
	}
	if id == 0 {
		for i := range fsys.devices {
			if d := &fsys.devices[i]; d.flat > 0 && off >= d.flat && off-d.flat < d.size {
				return fsys.resolve(uint16(i+1), off-d.flat)
			}
		}
		if off >= fsys.size {
			return nil, 0, 0, fmt.Errorf("offset %d is outside an image of %d bytes", off, fsys.size)
		}
		return fsys.r, off, fsys.size - off, nil
	}
	if int(id) > len(fsys.devices) {
		return nil, 0, 0, fmt.Errorf("device %d of %d", id, len(fsys.devices))
	}
	d := &fsys.devices[id-1]
	if d.r == nil {
		return nil, 0, 0, fmt.Errorf("device %d (%q): %w", id, fsys.info.Devices[id-1].Tag, errNoDevice)
	}
	if off >= d.size {
		return nil, 0, 0, fmt.Errorf("offset %d is outside device %d of %d bytes", off, id, d.size)
	}
	return d.r, d.base + off, d.size - off, nil
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
)
