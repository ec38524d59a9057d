package erofs

import "sort"

// dirList is a directory's entries in on-disk order: sorted by bytes, with "." and ".." at their place among the names ("!x" and "-a"
// come before them). The kernel searches with this order over all blocks of the directory.
type dirList struct {
	dir         *Inode
	dot, dotdot int // positions of the two
}

func listDir(dir *Inode) dirList {
	before := func(name string) int {
		return sort.Search(len(dir.Entries), func(i int) bool { return dir.Entries[i].Name >= name })
	}
	return dirList{dir: dir, dot: before("."), dotdot: before("..") + 1}
}

func (l dirList) len() int { return len(l.dir.Entries) + 2 }

func (l dirList) at(i int) Dirent {
	switch {
	case i == l.dot:
		return Dirent{Name: ".", Inode: l.dir}
	case i == l.dotdot:
		return Dirent{Name: "..", Inode: l.dir.out.parent}
	case i > l.dotdot:
		i -= 2
	case i > l.dot:
		i--
	}
	return l.dir.Entries[i]
}

// block returns the end of the block that begins with entry from, and how many bytes its content takes.
func (l dirList) block(from int) (to, size int) {
	for to = from; to < l.len(); to++ {
		need := direntSize + len(l.at(to).Name)
		if size+need > BlockSize {
			break
		}
		size += need
	}
	return to, size
}

// encode writes entries from to to-1, which are one block's, into b.
func (l dirList) encode(b []byte, from, to int, nid func(*Inode) uint64) {
	off := direntSize * (to - from)
	for i := from; i < to; i++ {
		e := l.at(i)
		dirent{Nid: nid(e.Inode), NameOff: uint16(off), Type: fileType(e.Inode.Mode)}.encode(b[direntSize*(i-from):])
		off += copy(b[off:], e.Name)
	}
}
