package erofs

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"
)

// oddNames must all be found, although they sort around "." and "..", are as long as names get, or are no UTF-8.
var oddNames = []string{
	"!x", "+", "-a", "-", "..a", "...", ".a", " ", "\x01", "\xff\xfe", "\x80", "a\nb", "ü", "A", "~", "*", "\\", ".wh.x", ",", ".\x01", "..\x01",
	strings.Repeat("n", 255), strings.Repeat("\xff", 255), strings.Repeat("m", 254),
}

// generator makes random trees.
type generator struct {
	*fixture
	r     *rand.Rand
	files []*Inode // candidates for hard links
}

// randomTree returns a tree of about count inodes with everything that the format can express.
func randomTree(r *rand.Rand, count, plain int, devices ...int) *fixture {
	g := &generator{fixture: newFixture(r, plain, devices...), r: r}
	g.attributes(g.root)
	dirs := []*Inode{g.root}
	for i := range count {
		dir := dirs[r.IntN(len(dirs))]
		name := fmt.Sprintf("%x-%s", i, strings.Repeat("x", r.IntN(40)))
		if r.IntN(4) == 0 {
			name = oddNames[r.IntN(len(oddNames))]
		}
		if hasName(dir, name) {
			continue
		}
		n := g.inode()
		if n.IsDir() {
			dirs = append(dirs, n)
		} else {
			g.files = append(g.files, n)
		}
		dir.Entries = append(dir.Entries, Dirent{name, n})
	}
	return g.fixture
}

func hasName(dir *Inode, name string) bool {
	for _, e := range dir.Entries {
		if e.Name == name {
			return true
		}
	}
	return false
}

func (g *generator) inode() *Inode {
	n := &Inode{}
	switch k := g.r.IntN(20); {
	case k < 3:
		n.Mode = unix.S_IFDIR
	case k < 6:
		n.Mode = unix.S_IFLNK
		n.Target = strings.Repeat("t", 1+g.r.IntN([]int{20, 300, 4095}[g.r.IntN(3)]))
	case k == 6:
		n.Mode = unix.S_IFCHR
		n.Rdev = MakeRdev(g.r.Uint32N(4096), g.r.Uint32N(1<<20))
	case k == 7:
		n.Mode = unix.S_IFBLK
		n.Rdev = MakeRdev(g.r.Uint32N(4096), g.r.Uint32N(1<<20))
	case k == 8:
		n.Mode = unix.S_IFIFO
	case k == 9:
		n.Mode = unix.S_IFSOCK
	case k == 10 && len(g.files) > 0:
		return g.files[g.r.IntN(len(g.files))]
	default:
		n.Mode = unix.S_IFREG
		g.content(n)
	}
	g.attributes(n)
	return n
}

func (g *generator) attributes(n *Inode) {
	n.Mode |= g.r.Uint32N(0o10000)
	n.UID, n.GID = g.r.Uint32N(70000), g.r.Uint32()
	n.Mtime, n.MtimeNsec = g.r.Int64N(1<<34)-1<<33, g.r.Uint32N(1e9)
	if g.r.IntN(2) == 0 { // a few values for many inodes
		n.Xattrs = append(n.Xattrs, Xattr{"security.selinux", fmt.Append(nil, "system_u:object_r:type", g.r.IntN(3))})
	}
	if g.r.IntN(3) > 0 {
		return
	}
	value := func() []byte { return randomBytes(g.r, g.r.IntN([]int{8, 60, 2000}[g.r.IntN(3)])) }
	for i := range g.r.IntN(4) {
		n.Xattrs = append(n.Xattrs, Xattr{fmt.Sprintf("trusted.t%d", i), value()})
	}
	n.Xattrs = append(n.Xattrs, Xattr{"security.test", value()})
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		n.Xattrs = append(n.Xattrs, Xattr{"system.posix_acl_default", someACL(g.r)})
		fallthrough
	case unix.S_IFREG:
		n.Xattrs = append(n.Xattrs, Xattr{"user." + strings.Repeat("u", 1+g.r.IntN(250)), value()}, Xattr{"system.posix_acl_access", someACL(g.r)})
	}
}

// someACL is a valid ACL with one named user, in the form of getxattr(2): struct posix_acl_xattr_header and entries.
func someACL(r *rand.Rand) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	entry := func(tag, perm uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perm)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	const none = 0xffffffff
	entry(0x01, uint16(r.IntN(8)), none) // owner
	entry(0x02, uint16(r.IntN(8)), r.Uint32N(1<<20))
	entry(0x04, uint16(r.IntN(8)), none) // group
	entry(0x10, uint16(r.IntN(8)), none) // mask
	entry(0x20, uint16(r.IntN(8)), none) // others
	return b
}

// content gives a regular file data of one of the kinds that the writer knows.
func (g *generator) content(n *Inode) {
	sizes := []int64{0, 1, 2, 100, 4000, 4031, 4032, 4033, 4095, 4096, 4097, 8191, 8192, 8193, 100000, 300000}
	n.Size = sizes[g.r.IntN(len(sizes))]
	switch k := g.r.IntN(5); {
	case n.Size == 0:
	case k == 0 && n.Size < BlockSize:
		n.Inline = g.addInline(randomBytes(g.r, int(n.Size)))
	case k == 1: // all hole
	case k == 2 && len(g.data) > 0 && n.Size > BlockSize && n.Size%BlockSize > 0: // blocks and an inline tail
		n.Inline = g.addInline(randomBytes(g.r, int(n.Size%BlockSize)))
		g.extent(n, 0, n.Size&^(BlockSize-1), 0)
	case k == 3: // pieces and holes
		for off := int64(0); off < n.Size; {
			size := min(BlockSize*(1+g.r.Int64N(20)), n.Size-off)
			if g.r.IntN(3) > 0 {
				g.extent(n, off, size, g.device())
			}
			off += size
		}
	default:
		g.extent(n, 0, n.Size, g.device())
	}
}

func (g *generator) device() int {
	first := 1
	if len(g.data) > 0 {
		first = 0
	}
	return first + g.r.IntN(len(g.devices)+1-first)
}

// extent maps a stretch of the file to a random place on a device; sometimes up to the end of the last block.
func (g *generator) extent(n *Inode, off, size int64, device int) {
	first, limit := int64(0), int64(0)
	if device == 0 {
		first, limit = 1, int64(g.opts.MetaBlock)
	} else {
		limit = int64(g.opts.Devices[device-1].Blocks)
	}
	blocks := fileBlocks(size)
	if g.r.IntN(2) == 0 {
		size = blocks * BlockSize
	}
	block := first + g.r.Int64N(limit-first-blocks+1)
	n.Extents = append(n.Extents, Extent{Off: off, Len: size, Device: uint16(device), Block: uint64(block)})
}
