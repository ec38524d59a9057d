package hot

import (
	"sort"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/profile"
)

// maxPlaces bounds how many places of a digest are remembered: more than the first few are not better.
const maxPlaces = 8

// matcher finds what a profile names in a tree.
type matcher struct {
	tree    *tree
	devices []Device
	places  map[profile.Digest][]piece // of the digests that the profile knows
}

// piece is data of a file that has a digest of its own, as blobs have it: a small file or a frame.
type piece struct {
	digest profile.Digest
	file   *erofs.Inode
	off    int64 // in the file; negative if the file has only a part of it
	len    int64 // bytes, whole blocks
}

// pieceAt returns the piece that the byte off of a file lies in.
func (m *matcher) pieceAt(n *erofs.Inode, off int64) (piece, bool) {
	i, ok := extentAt(n, off)
	if !ok {
		return piece{}, false
	}
	e := n.Extents[i]
	if e.Device == 0 || int(e.Device) > len(m.devices) {
		return piece{}, false
	}
	pos := int64(e.Block)*erofs.BlockSize + off - e.Off
	digest, first, length, ok := m.devices[e.Device-1].pieceAt(pos)
	if !ok {
		return piece{}, false
	}
	pc := piece{digest: digest, file: n, off: off - (pos - first), len: length}
	pc.len = min(pc.len, end(e)-pc.off) // the file may go on elsewhere
	return pc, true
}

// pieceAt returns the digest, the beginning and the length of the unit, or else of the frame, at the byte pos of the blob.
func (d *Device) pieceAt(pos int64) (digest profile.Digest, first, length int64, ok bool) {
	if d.Index != nil {
		i := sort.Search(d.Index.Units(), func(i int) bool { return int64(d.Index.Unit(i).Block)*blob.BlockSize > pos }) - 1
		if i >= 0 {
			if u := d.Index.Unit(i); pos < int64(u.Block)*blob.BlockSize+u.Size {
				return profile.Digest(u.Digest[:len(digest)]), int64(u.Block) * blob.BlockSize, u.Size, true
			}
		}
	}
	i := d.Map.Find(pos)
	if i < 0 {
		return digest, 0, 0, false
	}
	f := d.Map.Frame(i)
	return profile.Digest(f.Digest[:len(digest)]), f.Off, int64(f.Len), true
}

// learn finds the places of the digests that entries name.
func (m *matcher) learn(entries []profile.Entry) {
	m.places = make(map[profile.Digest][]piece)
	for _, e := range entries {
		if e.Digest != (profile.Digest{}) {
			m.places[e.Digest] = nil
		}
	}
	if len(m.places) == 0 {
		return
	}
	m.tree.files(func(n *erofs.Inode) {
		for _, e := range n.Extents {
			for off := e.Off; off < end(e); {
				pc, ok := m.pieceAt(n, off)
				if !ok {
					return
				}
				if known, wanted := m.places[pc.digest]; wanted && len(known) < maxPlaces {
					m.places[pc.digest] = append(known, pc)
				}
				off = pc.off + pc.len
			}
		}
	})
}

// match finds each of the entries, which do not overlap.
func (m *matcher) match(entries []profile.Entry) ([]Touch, Coverage) {
	var c Coverage
	var all touches
	found := map[string]bool{} // by path
	for _, e := range entries {
		before := c.Missing + c.Beyond
		if _, ok := found[e.Path]; !ok {
			found[e.Path] = false
		}
		c.Bytes += e.Len
		m.one(e, &all, &c)
		if c.Missing+c.Beyond-before < e.Len {
			found[e.Path] = true
		}
	}
	c.Files = len(found)
	for _, ok := range found {
		if ok {
			c.Found++
		}
	}
	return all.list, c
}

// one finds one entry.
func (m *matcher) one(e profile.Entry, all *touches, c *Coverage) {
	n := m.tree.find(e.Path)
	if n == nil || !n.IsRegular() {
		pc, ok := m.elsewhere(e)
		if !ok {
			c.Missing += e.Len
			return
		}
		off := pc.shift(e.Off)
		length := min(e.Len, max(pc.off+pc.len-off, 0))
		all.add(pc.file, off, length)
		c.Moved += length
		c.Missing += e.Len - length
		return
	}
	blocks := roundUp(n.Size, erofs.BlockSize)
	length := min(e.Len, max(blocks-e.Off, 0))
	c.Beyond += e.Len - length
	if len(n.Extents) == 0 {
		c.Small += length
		return
	}
	inFile := all.add(n, e.Off, length)
	c.Small += length - inFile
	pc, ok := m.pieceAt(n, e.Off)
	if same := e.Digest == (profile.Digest{}) || ok && pc.digest == e.Digest; same {
		c.Same += inFile
		return
	}
	c.Changed += inFile
}

// elsewhere returns a place of the data that an entry lies in, the one that is as far from the beginning of its file if there is one.
func (m *matcher) elsewhere(e profile.Entry) (piece, bool) {
	places := m.places[e.Digest]
	for _, pc := range places {
		if pc.off <= e.Off && e.Off < pc.off+pc.len {
			return pc, true
		}
	}
	if len(places) == 0 {
		return piece{}, false
	}
	return places[0], true
}

// shift is where in the piece's file that lies which was at off in another file.
func (pc *piece) shift(off int64) int64 {
	if pc.off <= off && off < pc.off+pc.len {
		return off
	}
	return max(pc.off, 0) + off%blob.LargeFrame // larger files are cut at its multiples
}

// touches are what was found.
type touches struct{ list []Touch }

// add adds what a range of a file has of blocks, and returns how many bytes that are.
func (t *touches) add(n *erofs.Inode, off, length int64) (data int64) {
	stop := off + length
	for i, _ := extentAt(n, off); i < len(n.Extents) && n.Extents[i].Off < stop; i++ {
		from, to := max(off, n.Extents[i].Off), min(stop, end(n.Extents[i]))
		if k := len(t.list) - 1; k >= 0 && t.list[k].File == n && t.list[k].Off+t.list[k].Len == from {
			t.list[k].Len += to - from
		} else {
			t.list = append(t.list, Touch{n, from, to - from})
		}
		data += to - from
	}
	return data
}
