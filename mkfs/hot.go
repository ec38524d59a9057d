package mkfs

import (
	"slices"
	"sort"
	"strings"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/profile"
)

// touch is a range of a file of a layer that a workload read.
type touch struct {
	file     int32
	off, len int64
}

// touches returns what a profile says of a layer's files, in the order of the profile. t holds the layer and those below it.
func (l *Layer) touches(t *Tree, p *profile.Profile) []touch {
	if p == nil {
		return nil
	}
	inodes := map[string]*erofs.Inode{}
	numbers := map[*erofs.Inode]int32{}
	for _, e := range p.Entries {
		if _, ok := inodes[e.Path]; !ok {
			n := t.find(e.Path)
			inodes[e.Path] = n
			numbers[n] = -1
		}
	}
	for i := range l.files {
		if _, ok := numbers[l.files[i].ino]; ok {
			numbers[l.files[i].ino] = int32(i)
		}
	}
	var all []touch
	for _, e := range p.Entries {
		if i := numbers[inodes[e.Path]]; i >= 0 {
			all = append(all, touch{i, e.Off, e.Len})
		}
	}
	return all
}

// find returns the inode of a path, or nil. It follows no symbolic link.
func (t *Tree) find(path string) *erofs.Inode {
	n, ino := t.top, t.root
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		switch {
		case n != nil:
			n = n.kids[part]
			if n == nil {
				return nil
			}
		case ino != nil:
			i, ok := slices.BinarySearchFunc(ino.Entries, part, func(e erofs.Dirent, name string) int { return strings.Compare(e.Name, name) })
			if !ok {
				return nil
			}
			ino = ino.Entries[i].Inode
		}
	}
	if n != nil {
		return n.ino
	}
	return ino
}

// hot gives the units that were touched places, those of the first touch first, in frames that hold nothing else.
func (pl *planner) hot(p *plan, l *Layer, touches []touch) error {
	files := map[int32]*hotFile{}
	for _, t := range touches {
		f := &l.files[t.file]
		h := files[t.file]
		if h == nil {
			h = newHotFile(pl.cut, f.shape())
			files[t.file] = h
		}
		first := sort.Search(len(h.pieces), func(i int) bool { return h.pieces[i].off+h.pieces[i].len > t.off })
		for i := h.cold(first); i < len(h.pieces) && h.pieces[i].off-t.off < t.len; i = h.cold(i + 1) {
			if err := pl.unit(p, l, f.first+uint32(i), h.pieces[i].small); err != nil {
				return err
			}
			h.next[i]++
		}
	}
	pl.seal(p)
	return nil
}

// hotFile is a file of which something was touched. It makes a profile cost no more than its entries and the files' pieces, even if each entry names all of a file.
type hotFile struct {
	pieces []piece
	next   []int32 // for each piece, itself or a later one: those in between are done with
}

func newHotFile(c cutter, shape layout) *hotFile {
	h := &hotFile{pieces: slices.Collect(c.pieces(shape))}
	h.next = make([]int32, len(h.pieces)+1)
	for i := range h.next {
		h.next[i] = int32(i)
	}
	return h
}

// cold returns the first piece from i on that was not touched yet, or the number of pieces.
func (h *hotFile) cold(i int) int {
	for int(h.next[i]) != i {
		h.next[i] = h.next[h.next[i]]
		i = int(h.next[i])
	}
	return i
}
