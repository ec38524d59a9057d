package erofs

import (
	"fmt"
	"io"
	"math/bits"

	"golang.org/x/sys/unix"
)

// emitter writes an arranged image.
type emitter struct {
	*image
	out    *blockWriter
	xattrs []byte // scratch
}

func (img *image) emit(w io.WriterAt) error {
	e := emitter{image: img, out: newBlockWriter(w, 0)}
	e.head()
	if first := int64(img.t.o.MetaBlock) * BlockSize; first > 0 {
		if err := e.out.finish(BlockSize); err != nil {
			return err
		}
		e.out = newBlockWriter(w, first)
	}
	if img.table >= int64(BlockSize)*int64(img.t.o.MetaBlock) {
		e.deviceTable()
	}
	for _, c := range img.t.shared.placed {
		e.xattrs = c.encode(e.xattrs[:0])
		e.out.put(img.shared+c.off, e.xattrs)
	}
	for _, n := range img.t.nodes {
		if err := e.inode(n); err != nil {
			return err
		}
		if e.out.err != nil {
			return e.out.err
		}
	}
	for _, n := range img.t.nodes {
		if n.out.own == 0 {
			continue
		}
		if err := e.ownData(n); err != nil {
			return err
		}
	}
	return e.out.finish(img.blocks * BlockSize)
}

func (e *emitter) head() {
	o := e.t.o
	s := superblock{
		Compat:        compatChecksum | compatMtime,
		BlockBits:     uint8(bits.TrailingZeros(BlockSize)),
		RootNid:       uint16(e.nid(e.t.nodes[0])),
		Inodes:        uint64(len(e.t.nodes)),
		BuildTime:     o.BuildTime,
		BuildTimeNsec: o.BuildTimeNsec,
		Blocks:        uint32(e.blocks),
		MetaBlock:     uint32(e.meta),
		UUID:          o.UUID,
		ExtraDevices:  uint16(len(o.Devices)),
	}
	copy(s.VolumeName[:], o.VolumeName)
	if e.chunked {
		s.Incompat |= incompatChunkedFile
	}
	if len(o.Devices) > 0 {
		s.Incompat |= incompatDeviceTable
		s.DeviceSlot = uint16(e.table / deviceSlotSize)
	}
	if e.t.filtered {
		s.Compat |= compatXattrFilter
	}
	if e.t.digest != nil {
		s.Compat |= compatPlainPrefixes | compatDigestXattrs
		s.Incompat |= incompatLongPrefixes
		s.PrefixCount, s.PrefixStart = 1, prefixTable/xattrUnit
		e.out.put(prefixTable, e.t.digest.encode())
	}
	if e.t.shared.size > 0 {
		s.XattrBlock = uint32(e.shared / BlockSize)
	}
	s.encode(e.out.at(superOffset, superSize))
	if o.MetaBlock > 0 && e.table < BlockSize {
		e.deviceTable()
	}
}

// deviceTable lays the devices end to end behind the image in the flat address space. An image that is mounted without its devices then
// reads behind its end, which fails, and not from its own metadata; and image and devices in one file are a valid image.
func (e *emitter) deviceTable() {
	flat := uint64(e.blocks)
	for i, d := range e.t.o.Devices {
		s := deviceSlot{Blocks: uint32(d.Blocks), UniAddr: uint32(min(flat, maxBlocks))}
		copy(s.Tag[:], d.Tag)
		s.encode(e.out.at(e.table+int64(i)*deviceSlotSize, deviceSlotSize))
		flat += d.Blocks
	}
}

func (e *emitter) inode(n *Inode) error {
	d := diskInode{
		Layout:    n.out.layout,
		XattrSize: int(n.out.xattrs),
		Mode:      uint16(n.Mode),
		Size:      uint64(n.out.size),
		UID:       n.UID,
		GID:       n.GID,
		Mtime:     n.Mtime,
		MtimeNsec: n.MtimeNsec,
		Nlink:     n.out.nlink,
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		d.U = n.Rdev
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		d.U = e.firstBlock(n)
		if n.out.layout == layoutChunked {
			d.U = chunkIndexes | uint32(n.out.chunkBits)
		}
	}
	d.encode(e.out.at(n.out.pos, extendedSize))

	pos := n.out.pos + extendedSize
	if n.out.xattrs > 0 {
		var err error
		if e.xattrs, err = e.encodeXattrs(e.xattrs[:0], n); err != nil {
			return err
		}
		e.out.put(pos, e.xattrs)
		pos += int64(n.out.xattrs)
	}
	switch n.out.layout {
	case layoutInline:
		return e.tail(n, e.out.at(pos, int(n.out.size%BlockSize)))
	case layoutChunked:
		e.chunkMap(n, alignUp(pos, chunkIndexSize))
	}
	return nil
}

// firstBlock is the block at which flat data begins.
func (e *emitter) firstBlock(n *Inode) uint32 {
	if n.out.own > 0 {
		return uint32(e.own) + n.out.block
	}
	return n.out.block
}

// tail sets the content of an inode's last, partial block.
func (e *emitter) tail(n *Inode, b []byte) error {
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		l := listDir(n)
		l.encode(b, int(n.out.tailEntry), l.len(), e.nid)
	case unix.S_IFLNK:
		copy(b, n.Target)
	default:
		if got, err := e.t.o.InlineData.ReadAt(b, n.Inline.Off); got < len(b) {
			return fmt.Errorf("%q: read inline data at %d: %w", e.t.pathOf(n), n.Inline.Off, unexpected(err))
		}
	}
	return nil
}

// unexpected is the error for a read that came back short.
func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (e *emitter) chunkMap(n *Inode, pos int64) {
	chunk := int64(1) << n.out.chunkBits
	for r := range n.runs(e.firstBlock(n)) {
		for at := r.at; at < r.at+r.count; at += chunk {
			c := chunkIndex{Device: r.device, Block: r.block}
			if r.block != nullBlock {
				c.Block += uint32(at - r.at)
			}
			c.encode(e.out.at(pos, chunkIndexSize))
			pos += chunkIndexSize
		}
	}
}

// ownData writes the blocks of an inode in the own-data area.
func (e *emitter) ownData(n *Inode) error {
	pos := int64(e.firstBlock(n)) * BlockSize
	if !n.IsDir() {
		return e.tail(n, e.out.at(pos, int(n.out.size%BlockSize)))
	}
	l := listDir(n)
	for from, i := 0, uint32(0); i < n.out.own; i++ {
		to, _ := l.block(from)
		l.encode(e.out.at(pos, BlockSize), from, to, e.nid)
		pos += BlockSize
		from = to
	}
	return nil
}
