package erofs

// openBlocks is how many partly filled blocks, and how far back in blocks, the packer looks for room. It bounds what the emitter must keep in
// memory. Measured on trees of small files, more blocks save less than 1 % of the metadata.
const openBlocks = 16

// packer gives out room for inodes. What fits into a block never crosses its end: inline data must not, and for the rest it spares the
// kernel a second read. Of what is larger than a block, the inode itself does not cross. The room that is left at the end of a block is offered
// to later, smaller inodes for a while.
type packer struct {
	end  int64   // first byte behind everything
	open []int64 // first free byte in earlier blocks, ascending
	lost int64
}

// place returns the position of size bytes, a multiple of inodeUnit.
func (p *packer) place(size int64) int64 {
	size = alignUp(size, inodeUnit)
	whole := int64(extendedSize)
	if size <= BlockSize {
		whole = size
		for i, pos := range p.open {
			if left := blockRest(pos); size <= left {
				p.open[i] += size
				if size == left {
					p.open = append(p.open[:i], p.open[i+1:]...)
				}
				return pos
			}
		}
	}
	if left := blockRest(p.end); left < whole {
		p.open = append(p.open, p.end)
		p.end += left
	}
	pos := p.end
	p.end += size
	p.close()
	return pos
}

// close gives up blocks that are too far back, and the oldest of too many.
func (p *packer) close() {
	for len(p.open) > 0 && (len(p.open) > openBlocks || p.open[0]/BlockSize < p.end/BlockSize-openBlocks) {
		p.lost += blockRest(p.open[0])
		p.open = p.open[1:]
	}
}

func (p *packer) wasted() int64 {
	lost := p.lost
	for _, pos := range p.open {
		lost += blockRest(pos)
	}
	return lost
}

// blockRest is the number of bytes from pos to the end of its block, 1 to BlockSize.
func blockRest(pos int64) int64 { return BlockSize - pos%BlockSize }
