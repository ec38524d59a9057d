package erofs

import "io"

// chunkBatch is how many chunk map entries are read at a time.
const chunkBatch = 256

// span is a stretch of a file's bytes with one place.
type span struct {
	off    int64 // in the file
	len    int64
	hole   bool
	inline bool   // pos is an offset in the image's metadata
	device uint16 // otherwise pos is an offset on this device
	pos    int64
}

// span returns where the bytes from off are, for off < i_size: as many of them as lie together, as far as one batch of the chunk map
// shows, up to the end of the file.
func (n *node) span(off int64) (span, error) {
	switch n.Layout {
	case layoutPlain, layoutInline:
		return n.flatSpan(off)
	case layoutChunked:
		return n.chunkSpan(off)
	}
	return span{}, n.errorf("i_format: data is compressed (layout %d), which is not supported", n.Layout)
}

func (n *node) flatSpan(off int64) (span, error) {
	size, bs := int64(n.Size), n.fsys.blockSize()
	full := size
	if n.Layout == layoutInline {
		full = (size - 1) &^ (bs - 1)
	}
	if off < full {
		return span{off: off, len: full - off, pos: int64(n.U)<<n.fsys.bits + off}, nil
	}
	tail := size - full
	if n.body&(bs-1)+tail > bs {
		return span{}, n.errorf("inline data of %d bytes at %d crosses a block", tail, n.body)
	}
	return span{off: off, len: size - off, inline: true, pos: n.body + off - full}, nil
}

func (n *node) chunkSpan(off int64) (span, error) {
	if n.U&^(chunkBitsMask|chunkIndexes) != 0 {
		return span{}, n.errorf("chunk format %#x is not supported", n.U)
	}
	unit := int64(blockMapSize)
	if n.U&chunkIndexes != 0 {
		unit = chunkIndexSize
	}
	chunkBits := n.fsys.bits + uint8(n.U&chunkBitsMask)
	table := alignUp(n.body, unit)
	count := (int64(n.Size)-1)>>chunkBits + 1
	if table > n.fsys.size || count > (n.fsys.size-table)/unit {
		return span{}, n.errorf("chunk map of %d entries at %d does not fit into the image", count, table)
	}
	first := off >> chunkBits
	batch := min(count-first, chunkBatch)
	var buf [chunkBatch * chunkIndexSize]byte
	b := buf[:batch*unit]
	if err := n.fsys.readMeta(b, uint64(table+first*unit)); err != nil {
		return span{}, n.errorf("chunk map: %w", err)
	}
	c := decodeChunk(b, unit)
	s := span{off: off, device: c.Device, hole: c.Block == nullBlock}
	s.pos = int64(c.Block)<<n.fsys.bits + off - first<<chunkBits
	chunks := int64(1)
	for ; chunks < batch; chunks++ {
		next := decodeChunk(b[chunks*unit:], unit)
		want := int64(c.Block) + chunks<<(chunkBits-n.fsys.bits)
		if s.hole && next.Block != nullBlock || !s.hole && (next.Device != c.Device || int64(next.Block) != want) {
			break
		}
	}
	s.len = int64(n.Size) - off
	if first+chunks < count {
		s.len = (first+chunks)<<chunkBits - off
	}
	return s, nil
}

// decodeChunk reads a chunk index, or where unit is blockMapSize, a plain block number.
func decodeChunk(b []byte, unit int64) chunkIndex {
	if unit == blockMapSize {
		return chunkIndex{Block: le.Uint32(b)}
	}
	return chunkIndex{Device: le.Uint16(b[2:]), Block: le.Uint32(b[4:])}
}

// readAt has the contract of [io.ReaderAt], for content of any file type.
func (n *node) readAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, n.errorf("negative offset %d", off)
	}
	size := int64(n.Size)
	done := 0
	for done < len(b) && off < size {
		s, err := n.span(off)
		if err != nil {
			return done, err
		}
		part := b[done : done+int(min(int64(len(b)-done), s.len))]
		got, err := n.readSpan(part, s)
		done += got
		off += int64(got)
		if err != nil {
			return done, err
		}
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// readSpan reads from the beginning of a span: all of b, or as much as the device holds in one piece.
func (n *node) readSpan(b []byte, s span) (int, error) {
	if s.hole {
		clear(b)
		return len(b), nil
	}
	if s.inline {
		if err := n.fsys.readMeta(b, uint64(s.pos)); err != nil {
			return 0, n.errorf("inline data: %w", err)
		}
		return len(b), nil
	}
	r, pos, avail, err := n.fsys.resolve(s.device, s.pos)
	if err != nil {
		return 0, n.errorf("data at %d: %w", s.off, err)
	}
	b = b[:min(int64(len(b)), avail)]
	got, err := r.ReadAt(b, pos)
	if got < len(b) {
		return got, n.errorf("data at %d: read device %d at %d: %w", s.off, s.device, s.pos, unexpected(err))
	}
	return got, nil
}

// extents lists where a regular file's bytes are, without holes and inline data.
func (n *node) extents() ([]Extent, error) {
	var list Inode
	for off := int64(0); off < int64(n.Size); {
		s, err := n.span(off)
		if err != nil {
			return nil, err
		}
		off += s.len
		if s.hole || s.inline {
			continue
		}
		list.addExtent(Extent{Off: s.off, Len: s.len, Device: s.device, Block: uint64(s.pos) >> n.fsys.bits}, n.fsys.bits)
	}
	return list.Extents, nil
}
