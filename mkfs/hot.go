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
	cuts := map[int32][]piece{}
	for _, t := range touches {
		f := &l.files[t.file]
		all, ok := cuts[t.file]
		if !ok {
			all = slices.Collect(pl.cut.pieces(f.shape()))
			cuts[t.file] = all
		}
		first := sort.Search(len(all), func(i int) bool { return all[i].off+all[i].len > t.off })
		for i := first; i < len(all) && all[i].off-t.off < t.len; i++ {
			if err := pl.unit(p, l, f.first+uint32(i), all[i].small); err != nil {
				return err
			}
		}
	}
	pl.seal(p)
	return nil
}
