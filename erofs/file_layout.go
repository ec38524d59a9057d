package erofs

import (
	"fmt"
	"iter"
	"math/bits"

	"golang.org/x/sys/unix"
)

const (
	// maxChunkBits makes chunks of at most 1 GiB: larger ones are refused by mkfs.erofs and little tested. A chunk may be larger than its file.
	maxChunkBits = 18
	// maxChunks bounds a file's chunk map to 1 GiB. A sparse file of 128 PiB still fits.
	maxChunks = 1 << 27
	// maxFileSize is what maxChunks of the largest chunks hold, in bytes.
	maxFileSize = maxChunks << maxChunkBits * BlockSize
)

// layOut chooses how an inode's content is stored, and returns the bytes that it takes together with its attributes, inline data and chunk
// map.
func (t *tree) layOut(n *Inode) (int64, error) {
	n.out.block = nullBlock
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		n.layOutDir()
	case unix.S_IFLNK:
		n.out.size = int64(len(n.Target))
		n.layOutInline()
	case unix.S_IFREG:
		if err := t.checkData(n); err != nil {
			return 0, err
		}
		if err := n.layOutFile(); err != nil {
			return 0, err
		}
	}
	size := extendedSize + int64(n.out.xattrs)
	switch n.out.layout {
	case layoutInline:
		size += n.out.size % BlockSize
	case layoutChunked:
		size = alignUp(size, chunkIndexSize) + n.chunks()*chunkIndexSize
	}
	return size, nil
}

// fits reports whether a tail of the given length can be stored behind the inode in one block, as the kernel wants it.
func (n *Inode) fits(tail int) bool {
	return tail < BlockSize && extendedSize+int(n.out.xattrs)+tail <= BlockSize
}

func (n *Inode) layOutDir() {
	l := listDir(n)
	blocks, last := int64(0), 0
	for i := 0; i < l.len(); blocks++ {
		n.out.tailEntry = uint32(i)
		i, last = l.block(i)
	}
	n.out.size = (blocks-1)*BlockSize + int64(last)
	n.out.own = uint32(blocks)
	if n.fits(last) {
		n.out.layout = layoutInline
		n.out.own--
	}
}

// layOutInline stores content of less than a block in the inode, or where attributes leave no room, in a block of its own.
func (n *Inode) layOutInline() {
	if n.fits(int(n.out.size)) {
		n.out.layout = layoutInline
		return
	}
	n.out.layout = layoutPlain
	n.out.own = 1
}

func (n *Inode) layOutFile() error {
	n.out.size = n.Size
	if n.Size == 0 {
		return nil
	}
	if n.Inline.Len > 0 && len(n.Extents) == 0 {
		n.layOutInline()
		return nil
	}
	if n.Inline.Len > 0 && !n.fits(n.Inline.Len) {
		n.out.own = 1
	}
	if first, ok := n.flatData(); ok {
		n.out.layout, n.out.block = layoutPlain, first
		if n.Inline.Len > 0 {
			n.out.layout = layoutInline
		}
		return nil
	}
	n.out.layout = layoutChunked
	chunkBits := maxChunkBits // for a file in one piece; that all of those have the same compresses better
	for r := range n.runs(nullBlock) {
		if r.at > 0 {
			chunkBits = min(chunkBits, bits.TrailingZeros64(uint64(r.at)))
		}
	}
	n.out.chunkBits = uint8(chunkBits)
	if n.chunks() > maxChunks {
		return fmt.Errorf("file of %d bytes in chunks of %d needs more than %d chunks", n.Size, BlockSize<<chunkBits, maxChunks)
	}
	return nil
}

// flatData returns the first block of a file whose full blocks lie in one piece in the image itself.
func (n *Inode) flatData() (first uint32, ok bool) {
	if n.out.own > 0 {
		return 0, false
	}
	count := 0
	for r := range n.runs(nullBlock) {
		if r.device != 0 || r.block == nullBlock {
			return 0, false
		}
		if count++; count > 1 {
			return 0, false
		}
		first = r.block
	}
	return first, count == 1
}

// chunks is the number of entries in a chunk map.
func (n *Inode) chunks() int64 {
	chunk := int64(BlockSize) << n.out.chunkBits
	return (n.out.size-1)/chunk + 1
}

// fileBlocks is the number of blocks that size bytes take.
func fileBlocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// run is a stretch of file blocks that lie one behind the other on a device, or are all holes.
type run struct {
	at     int64 // in the file
	count  int64
	device uint16
	block  uint32 // on the device; nullBlock for a hole
}

func (r run) follows(p run) bool {
	if r.block == nullBlock || p.block == nullBlock {
		return r.block == p.block
	}
	return r.device == p.device && int64(r.block) == int64(p.block)+p.count
}

// runs yields a file's blocks as runs of greatest length, in order. own is the image's block that holds a tail which found no room in the
// inode. A tail that is in the inode is no run.
func (n *Inode) runs(own uint32) iter.Seq[run] {
	return func(yield func(run) bool) {
		var last run
		add := func(r run) bool {
			if last.count > 0 && r.follows(last) {
				last.count += r.count
				return true
			}
			ok := last.count == 0 || yield(last)
			last = r
			return ok
		}
		at := int64(0)
		for _, e := range n.Extents {
			first := e.Off / BlockSize
			if first > at && !add(run{at: at, count: first - at, block: nullBlock}) {
				return
			}
			at = first + fileBlocks(e.Len)
			if !add(run{at: first, count: at - first, device: e.Device, block: uint32(e.Block)}) {
				return
			}
		}
		switch end := fileBlocks(n.Size); {
		case n.out.own > 0:
			if last.count > 0 && !yield(last) {
				return
			}
			last = run{at: at, count: 1, block: own}
		case n.Inline.Len == 0 && at < end:
			if !add(run{at: at, count: end - at, block: nullBlock}) {
				return
			}
		}
		if last.count > 0 {
			yield(last)
		}
	}
}

// checkData checks the extents and inline data of a regular file.
func (t *tree) checkData(n *Inode) error {
	if n.Size < 0 || n.Size > maxFileSize {
		return fmt.Errorf("size %d: want 0 to %d", n.Size, int64(maxFileSize))
	}
	limit := alignUp(n.Size, BlockSize)
	end := int64(0)
	for i, e := range n.Extents {
		switch {
		case e.Off < end || e.Off%BlockSize != 0:
			return fmt.Errorf("extent %d at offset %d: want a multiple of %d, not before %d", i, e.Off, BlockSize, end)
		case e.Len <= 0 || e.Off > limit || e.Len > limit-e.Off:
			return fmt.Errorf("extent %d at offset %d with %d bytes is not inside a file of %d", i, e.Off, e.Len, n.Size)
		case e.Len%BlockSize != 0 && e.Off+e.Len < n.Size:
			return fmt.Errorf("extent %d at offset %d with %d bytes ends inside a block", i, e.Off, e.Len)
		}
		end = e.Off + alignUp(e.Len, BlockSize)
		if err := t.o.checkRange(e.Device, e.Block, uint64(fileBlocks(e.Len))); err != nil {
			return fmt.Errorf("extent %d at offset %d: %w", i, e.Off, err)
		}
	}
	return t.checkInline(n)
}

// checkRange checks that blocks lie on their device.
func (o *WriteOptions) checkRange(device uint16, block, count uint64) error {
	if int(device) > len(o.Devices) {
		return fmt.Errorf("device %d: the image has %d extra devices", device, len(o.Devices))
	}
	first, limit := uint64(1), o.MetaBlock
	if device > 0 {
		first, limit = 0, o.Devices[device-1].Blocks
	}
	if limit <= first {
		return fmt.Errorf("%d blocks from block %d: device %d has no data", count, block, device)
	}
	if block < first || block > limit || count > limit-block {
		return fmt.Errorf("%d blocks from block %d: device %d has data in blocks %d to %d only", count, block, device, first, limit-1)
	}
	return nil
}

func (t *tree) checkInline(n *Inode) error {
	in := n.Inline
	if in.Len == 0 {
		return nil
	}
	switch {
	case in.Len < 0 || in.Len >= BlockSize || in.Off < 0:
		return fmt.Errorf("inline data of %d bytes at offset %d: want at most %d", in.Len, in.Off, BlockSize-1)
	case t.o.InlineData == nil:
		return fmt.Errorf("inline data of %d bytes, but no source of inline data", in.Len)
	case len(n.Extents) == 0 && int64(in.Len) == n.Size:
		return nil
	case len(n.Extents) == 1:
		e := n.Extents[0]
		if e.Device == 0 && e.Off == 0 && e.Len%BlockSize == 0 && e.Len+int64(in.Len) == n.Size {
			return nil
		}
	}
	return fmt.Errorf("inline data of %d bytes is neither the whole file nor the tail behind one extent on device 0", in.Len)
}
