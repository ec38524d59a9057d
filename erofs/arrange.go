package erofs

import (
	"errors"
	"fmt"
	"math"
)

// image is a tree in which everything has its place. From front to back: superblock, table of long xattr prefixes and device table; shared
// attributes; inodes with their attributes, inline data and chunk maps; then the own-data area, whole blocks of directories and of content that found no room in its inode. In a plain image
// the caller's data lies between block 0 and the rest.
type image struct {
	t       *tree
	table   int64 // byte offset of the device table
	shared  int64 // byte offset of the shared attributes
	meta    int64 // block that nids count from
	nodes   int64 // byte offset of the first inode
	own     int64 // first block of the own-data area
	blocks  int64 // length of the image
	padding int64 // bytes between inodes that nothing fits into
	chunked bool  // there is a file with a chunk map
}

// prefixTable is the byte offset of the table of long xattr prefixes: in block 0, because the superblock's pointer to it ends at 16 GiB.
const prefixTable = superOffset + superSize

// kind is a group of inodes that lie together. So each compresses with its like, which takes 5 to 7 % off a compressed metadata image, and the
// directories, which every walk of a path reads, are close to each other.
type kind int

const (
	kindDir    kind = iota // with the entries of its last block
	kindOther              // symbolic links with their targets, special files
	kindFile               // with chunk maps
	kindInline             // files with their data
	kinds
)

func kindOf(n *Inode) kind {
	switch {
	case n.IsDir():
		return kindDir
	case !n.IsRegular():
		return kindOther
	case n.Inline.Len == 0:
		return kindFile
	}
	return kindInline
}

// group sorts the inodes by kind, each kind in the order of the tree, so that the root stays the first. It also sizes their xattr areas: every
// walk over the inodes of a large tree waits for memory.
func (t *tree) group() error {
	var next [kinds]int
	for k := kind(1); k < kinds; k++ {
		next[k] = next[k-1] + t.counts[k-1]
	}
	nodes := make([]*Inode, len(t.nodes))
	for _, n := range t.nodes {
		if err := t.sizeXattrs(n); err != nil {
			return fmt.Errorf("%q: %w", t.pathOf(n), err)
		}
		k := kindOf(n)
		nodes[next[k]] = n
		next[k]++
	}
	t.nodes = nodes
	return nil
}

// arrange gives every inode its place, in the order that group made. The root is the first, as its nid must fit into 16 bits.
func (t *tree) arrange() (*image, error) {
	img := &image{t: t}
	if err := img.placeHead(); err != nil {
		return nil, err
	}
	p := packer{end: img.nodes}
	own := int64(0)
	for _, n := range t.nodes {
		size, err := t.layOut(n)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", t.pathOf(n), err)
		}
		n.out.pos = p.place(size)
		if n.out.own > 0 {
			n.out.block = uint32(own)
			own += int64(n.out.own)
		}
		img.chunked = img.chunked || n.out.layout == layoutChunked
		if p.end/BlockSize+own >= maxBlocks-1 {
			return nil, fmt.Errorf("image has more than %d blocks", uint64(maxBlocks))
		}
	}
	img.padding = p.wasted()
	img.own = fileBlocks(p.end)
	img.blocks = max(img.own+own, fileBlocks(img.shared+t.shared.reach()))
	if img.blocks >= maxBlocks {
		return nil, fmt.Errorf("image has more than %d blocks", uint64(maxBlocks))
	}
	return img, nil
}

// placeHead finds room for what lies before the inodes. The device table comes behind the superblock, or in a plain image whose block 0 is too
// small for it, behind the data.
func (img *image) placeHead() error {
	o := img.t.o
	img.table = prefixTable
	if img.t.digest != nil {
		img.table = alignUp(prefixTable+int64(len(img.t.digest.encode())), deviceSlotSize)
	}
	img.nodes = img.table + int64(len(o.Devices))*deviceSlotSize
	if o.MetaBlock > 0 {
		behind := int64(o.MetaBlock) * BlockSize
		if img.nodes > BlockSize {
			img.table = behind
			behind += int64(len(o.Devices)) * deviceSlotSize
		}
		img.nodes = behind
	}
	if len(o.Devices) > 0 && img.table/deviceSlotSize > math.MaxUint16 {
		return errors.New("the table of this many devices would lie behind the data, where the superblock cannot point")
	}
	img.shared = img.nodes
	img.nodes = alignUp(img.shared+img.t.shared.size, inodeUnit)
	// Counting nids from the block before keeps nid 0 unused: programs take inode number 0 for a deleted file.
	img.meta = (img.nodes - 1) / BlockSize
	return nil
}

func (img *image) nid(n *Inode) uint64 {
	return uint64(n.out.pos-img.meta*BlockSize) / inodeUnit
}
