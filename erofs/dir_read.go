package erofs

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
)

// dirBlock is the entries of one directory block, checked.
type dirBlock struct {
	b     []byte
	count int
}

// dirBlocks is the number of blocks of a directory.
func (n *node) dirBlocks() int64 {
	bs := n.fsys.blockSize()
	return int64(n.Size/uint64(bs)) + int64((n.Size%uint64(bs)+uint64(bs)-1)/uint64(bs))
}

// dirBlock reads block i of a directory. Only flat directories are accepted: all writers make those, and holes could make one endless.
func (n *node) dirBlock(i int64) (dirBlock, error) {
	if n.Layout != layoutPlain && n.Layout != layoutInline {
		return dirBlock{}, n.errorf("i_format: data layout %d of a directory is not supported", n.Layout)
	}
	bs := n.fsys.blockSize()
	b := make([]byte, min(bs, int64(n.Size)-i*bs))
	if _, err := n.readAt(b, i*bs); err != nil {
		return dirBlock{}, err
	}
	d := dirBlock{b: b}
	if err := d.check(); err != nil {
		return dirBlock{}, n.errorf("directory block %d: %w", i, err)
	}
	return d, nil
}

// Reasons for which a directory block is refused.
var (
	errDirOffsets = errors.New("name offsets are wrong")
	errDirName    = errors.New("a name is empty, too long, or contains a slash or NUL")
	errDirOrder   = errors.New("names are not sorted")
)

// check makes sure that entry and name can be called for each entry, and that names are sorted.
func (d *dirBlock) check() error {
	if len(d.b) < direntSize {
		return errDirOffsets
	}
	first := int(decodeDirent(d.b).NameOff)
	if first < direntSize || first%direntSize != 0 || first >= len(d.b) {
		return errDirOffsets
	}
	d.count = first / direntSize
	end := len(d.b)
	for i := d.count - 1; i >= 0; i-- {
		off := int(d.entry(i).NameOff)
		if off < first || off >= end {
			return errDirOffsets
		}
		end = off
	}
	for i := range d.count {
		name := d.name(i)
		if len(name) == 0 || len(name) > maxName || bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0 {
			return errDirName
		}
		if i > 0 && bytes.Compare(d.name(i-1), name) >= 0 {
			return errDirOrder
		}
	}
	return nil
}

func (d *dirBlock) entry(i int) dirent { return decodeDirent(d.b[i*direntSize:]) }

// name returns a name as a part of the block. It ends where the next one begins, the last one at the first NUL or the end.
func (d *dirBlock) name(i int) []byte {
	off := d.entry(i).NameOff
	if i < d.count-1 {
		return d.b[off:d.entry(i+1).NameOff]
	}
	b := d.b[off:]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return b
}

// find returns the position of a name, or the one of the next greater name and false.
func (d *dirBlock) find(name string) (int, bool) {
	lo, hi := 0, d.count
	for lo < hi {
		mid := (lo + hi) / 2
		switch c := strings.Compare(string(d.name(mid)), name); {
		case c == 0:
			return mid, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return lo, false
}

// lookup finds a name in a directory as the kernel does: by binary search over the blocks, then in the block.
func (n *node) lookup(name string) (dirent, error) {
	lo, hi := int64(0), n.dirBlocks()
	for lo < hi {
		mid := lo + (hi-lo)/2
		d, err := n.dirBlock(mid)
		if err != nil {
			return dirent{}, err
		}
		i, ok := d.find(name)
		switch {
		case ok:
			return d.entry(i), nil
		case i == 0:
			hi = mid
		case i == d.count:
			lo = mid + 1
		default:
			return dirent{}, fs.ErrNotExist
		}
	}
	return dirent{}, fs.ErrNotExist
}

// child reads the inode behind an entry of n. A directory must name n as its parent, and nothing leads back to the root: so no path is
// endless.
func (n *node) child(e dirent) (*node, error) {
	c, err := n.fsys.inode(e.Nid)
	if err != nil || !c.isDir() {
		return c, err
	}
	if c.nid == n.fsys.root() {
		return nil, n.errorf("an entry leads back to the root")
	}
	parent, err := c.lookup("..")
	if err != nil {
		return nil, c.errorf("look for \"..\": %w", err)
	}
	if parent.Nid != n.nid {
		return nil, c.errorf("the directory is in directory %d, but its \"..\" leads to %d", n.nid, parent.Nid)
	}
	return c, nil
}
