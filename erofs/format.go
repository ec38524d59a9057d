package erofs

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes and positions of the on-disk records, in bytes. Source: struct definitions in Linux fs/erofs/erofs_fs.h; all fields are
// little-endian.
const (
	superOffset    = 1024 // struct erofs_super_block begins here, whatever the block size
	superSize      = 128
	deviceSlotSize = 128 // struct erofs_deviceslot; also the unit of the superblock's devt_slotoff
	inodeUnit      = 32  // an inode begins at a multiple of this, and its nid counts these
	compactSize    = 32  // struct erofs_inode_compact
	extendedSize   = 64  // struct erofs_inode_extended
	direntSize     = 12  // struct erofs_dirent
	chunkIndexSize = 8   // struct erofs_inode_chunk_index
	blockMapSize   = 4   // entry of a chunk map without device numbers
	xattrHeadSize  = 12  // struct erofs_xattr_ibody_header
	xattrIDSize    = 4   // number of a shared xattr in an xattr area
	xattrEntrySize = 4   // struct erofs_xattr_entry, before the name
	xattrUnit      = 4   // xattr entries and the xattr area are multiples of this
)

const (
	superMagic = 0xE0F5E1E2
	nullBlock  = 0xFFFFFFFF // a hole in a chunk map; "no full block" in a flat inode
	maxBlocks  = 0xFFFFFFFF // block numbers are 32 bits wide, and the highest one is nullBlock
)

// Features a reader may ignore.
const (
	compatChecksum = 0x1 // the superblock's checksum field is set
	compatMtime    = 0x2 // the timestamps in inodes are modification times

	compatXattrFilter   = 0x4  // the head of each xattr area holds a name filter (Linux 6.6)
	compatPlainPrefixes = 0x10 // the table of long xattr prefixes lies in the image itself (6.17)
	compatDigestXattrs  = 0x20 // the superblock names the long prefix of content digests (7.0)
)

// Features a reader must know.
const (
	incompatZeroPadding  = 0x1 // concerns compressed inodes only
	incompatComprCfgs    = 0x2 // concerns compressed inodes only
	incompatChunkedFile  = 0x4
	incompatDeviceTable  = 0x8
	incompatLongPrefixes = 0x40 // there is a table of long xattr name prefixes (6.4)
)

// Data layouts: bits 1 to 3 of an inode's i_format.
const (
	layoutPlain             = 0
	layoutCompressedFull    = 1
	layoutInline            = 2
	layoutCompressedCompact = 3
	layoutChunked           = 4
)

// Chunk format: bits 0 to 4 are log2(chunk size / block size).
const (
	chunkBitsMask = 0x1f
	chunkIndexes  = 0x20 // the map has 8-byte entries with device numbers
)

var le = binary.LittleEndian

// castagnoli is read-only after initialisation.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// superblock is struct erofs_super_block. Fields that concern compression and 64-bit addresses are left out.
type superblock struct {
	Checksum       uint32   // 4
	Compat         uint32   // 8
	BlockBits      uint8    // 12: log2 of the block size
	ExtSlots       uint8    // 13
	RootNid        uint16   // 14
	Inodes         uint64   // 16
	BuildTime      int64    // 24
	BuildTimeNsec  uint32   // 32
	Blocks         uint32   // 36
	MetaBlock      uint32   // 40: the block that nids count from
	XattrBlock     uint32   // 44: the block that shared xattr ids count from
	UUID           [16]byte // 48
	VolumeName     [16]byte // 64
	Incompat       uint32   // 80
	ExtraDevices   uint16   // 86
	DeviceSlot     uint16   // 88: position of the device table / deviceSlotSize
	DirBlockBits   uint8    // 90
	PrefixCount    uint8    // 91: entries of the table of long xattr prefixes
	PrefixStart    uint32   // 92: position of that table / xattrUnit
	FilterReserved uint8    // 104: the name filters count only where this is 0
	DigestPrefix   uint8    // 105: the entry of that table that names content digests
}

func (s *superblock) encode(b []byte) {
	_ = b[superSize-1]
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[4:], s.Checksum)
	le.PutUint32(b[8:], s.Compat)
	b[12] = s.BlockBits
	b[13] = s.ExtSlots
	le.PutUint16(b[14:], s.RootNid)
	le.PutUint64(b[16:], s.Inodes)
	le.PutUint64(b[24:], uint64(s.BuildTime))
	le.PutUint32(b[32:], s.BuildTimeNsec)
	le.PutUint32(b[36:], s.Blocks)
	le.PutUint32(b[40:], s.MetaBlock)
	le.PutUint32(b[44:], s.XattrBlock)
	copy(b[48:64], s.UUID[:])
	copy(b[64:80], s.VolumeName[:])
	le.PutUint32(b[80:], s.Incompat)
	le.PutUint16(b[86:], s.ExtraDevices)
	le.PutUint16(b[88:], s.DeviceSlot)
	b[90] = s.DirBlockBits
	b[91] = s.PrefixCount
	le.PutUint32(b[92:], s.PrefixStart)
	b[104] = s.FilterReserved
	b[105] = s.DigestPrefix
}

func (s *superblock) decode(b []byte) {
	_ = b[superSize-1]
	s.Checksum = le.Uint32(b[4:])
	s.Compat = le.Uint32(b[8:])
	s.BlockBits = b[12]
	s.ExtSlots = b[13]
	s.RootNid = le.Uint16(b[14:])
	s.Inodes = le.Uint64(b[16:])
	s.BuildTime = int64(le.Uint64(b[24:]))
	s.BuildTimeNsec = le.Uint32(b[32:])
	s.Blocks = le.Uint32(b[36:])
	s.MetaBlock = le.Uint32(b[40:])
	s.XattrBlock = le.Uint32(b[44:])
	copy(s.UUID[:], b[48:64])
	copy(s.VolumeName[:], b[64:80])
	s.Incompat = le.Uint32(b[80:])
	s.ExtraDevices = le.Uint16(b[86:])
	s.DeviceSlot = le.Uint16(b[88:])
	s.DirBlockBits = b[90]
	s.PrefixCount = b[91]
	s.PrefixStart = le.Uint32(b[92:])
	s.FilterReserved = b[104]
	s.DigestPrefix = b[105]
}

// superChecksum is the checksum of a superblock: b is the image from superOffset to the end of the checked range (the end of block 0, or one
// block where blocks are not larger than superOffset). The checksum field counts as zero, and there is no final inversion.
func superChecksum(b []byte) uint32 {
	var zero [4]byte
	crc := crc32.Update(0, castagnoli, b[:4])
	crc = crc32.Update(crc, castagnoli, zero[:])
	return ^crc32.Update(crc, castagnoli, b[8:])
}

// deviceSlot is struct erofs_deviceslot.
type deviceSlot struct {
	Tag     [64]byte // 0
	Blocks  uint32   // 64
	UniAddr uint32   // 68: where the device begins when all devices are laid end to end, 0 if nowhere
}

func (d *deviceSlot) encode(b []byte) {
	_ = b[deviceSlotSize-1]
	copy(b[:64], d.Tag[:])
	le.PutUint32(b[64:], d.Blocks)
	le.PutUint32(b[68:], d.UniAddr)
}

func (d *deviceSlot) decode(b []byte) {
	_ = b[deviceSlotSize-1]
	copy(d.Tag[:], b[:64])
	d.Blocks = le.Uint32(b[64:])
	d.UniAddr = le.Uint32(b[68:])
}

// diskInode is struct erofs_inode_compact or struct erofs_inode_extended.
type diskInode struct {
	Extended  bool   // bit 0 of i_format
	Layout    uint8  // bits 1 to 3 of i_format
	Flags     uint16 // the other bits of i_format
	XattrSize int    // bytes of the xattr area, from i_xattr_icount
	Mode      uint16
	Size      uint64
	U         uint32 // first block, device number, or chunk format
	UID, GID  uint32
	Mtime     int64 // of a compact inode: seconds after the image's build time, which Linux before 6.15 ignores
	MtimeNsec uint32
	Nlink     uint32
}

// encode writes the extended form. i_ino at 20 stays 0: no reader looks at it, and a number of its own in each inode costs 3 bytes even when it is
// compressed.
func (d *diskInode) encode(b []byte) {
	_ = b[extendedSize-1]
	le.PutUint16(b[0:], 1|uint16(d.Layout)<<1)
	le.PutUint16(b[2:], xattrCount(d.XattrSize))
	le.PutUint16(b[4:], d.Mode)
	le.PutUint64(b[8:], d.Size)
	le.PutUint32(b[16:], d.U)
	le.PutUint32(b[24:], d.UID)
	le.PutUint32(b[28:], d.GID)
	le.PutUint64(b[32:], uint64(d.Mtime))
	le.PutUint32(b[40:], d.MtimeNsec)
	le.PutUint32(b[44:], d.Nlink)
}

// inodeSize returns the length of the inode that begins with the two bytes in b.
func inodeSize(b []byte) int {
	if le.Uint16(b)&1 != 0 {
		return extendedSize
	}
	return compactSize
}

// decode reads either form; b is as long as inodeSize says.
func (d *diskInode) decode(b []byte) {
	format := le.Uint16(b)
	d.Extended = format&1 != 0
	d.Layout = uint8(format >> 1 & 7)
	d.Flags = format &^ 0xf
	d.XattrSize = xattrAreaSize(le.Uint16(b[2:]))
	d.Mode = le.Uint16(b[4:])
	d.U = le.Uint32(b[16:])
	if d.Extended {
		d.Size = le.Uint64(b[8:])
		d.UID = le.Uint32(b[24:])
		d.GID = le.Uint32(b[28:])
		d.Mtime = int64(le.Uint64(b[32:]))
		d.MtimeNsec = le.Uint32(b[40:])
		d.Nlink = le.Uint32(b[44:])
		return
	}
	d.Nlink = uint32(le.Uint16(b[6:]))
	d.Size = uint64(le.Uint32(b[8:]))
	d.Mtime = int64(le.Uint32(b[12:]))
	d.UID = uint32(le.Uint16(b[24:]))
	d.GID = uint32(le.Uint16(b[26:]))
}

// xattrCount is i_xattr_icount for an xattr area of size bytes, and xattrAreaSize its inverse.
func xattrCount(size int) uint16 {
	if size == 0 {
		return 0
	}
	return uint16((size-xattrHeadSize)/xattrUnit + 1)
}

func xattrAreaSize(count uint16) int {
	if count == 0 {
		return 0
	}
	return xattrHeadSize + xattrUnit*(int(count)-1)
}

// chunkIndex is struct erofs_inode_chunk_index.
type chunkIndex struct {
	Device uint16 // 2
	Block  uint32 // 4: nullBlock for a hole
}

func (c chunkIndex) encode(b []byte) {
	_ = b[chunkIndexSize-1]
	le.PutUint16(b[2:], c.Device)
	le.PutUint32(b[4:], c.Block)
}

// dirent is struct erofs_dirent; its name lies at nameOff in the same block.
type dirent struct {
	Nid     uint64 // 0
	NameOff uint16 // 8
	Type    uint8  // 10
}

func (d dirent) encode(b []byte) {
	_ = b[direntSize-1]
	le.PutUint64(b[0:], d.Nid)
	le.PutUint16(b[8:], d.NameOff)
	b[10] = d.Type
}

func decodeDirent(b []byte) dirent {
	_ = b[direntSize-1]
	return dirent{Nid: le.Uint64(b), NameOff: le.Uint16(b[8:]), Type: b[10]}
}

func alignUp[T int | int64 | uint64](n, unit T) T { return (n + unit - 1) &^ (unit - 1) }
