// Package hot lays the data that a profile names out anew: in a blob of its own, in the order in which it was touched.
//
// It knows trees, blobs and profiles, and nothing of where they come from. Blobs are immutable, so nothing is moved: what is hot is copied from the blobs that have it, and the extents
// of its files then lead to the copy. All else stays where it is. The idea to hold in mind: a hot page is one that a workload is sure to want, so the hot blob is
// worth fetching whole, in order, before anybody asks; a page too many costs time, and one too few a reader's wait.
package hot

import (
	"io"
	"slices"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/profile"
)

// MaxBytes bounds what is copied, whatever a profile claims. What comes behind it in the profile stays where it is.
const MaxBytes = 1 << 30

// Device is a blob that a tree's files refer to.
type Device struct {
	Map   *blob.Map
	Index *blob.Index // where its small files are; nil if it has none
	Data  io.ReaderAt // the blob's bytes
}

// Coverage says how much of what a profile names was found, in bytes of whole pages, each counted once. Every page of the profile is in exactly one of Same, Changed, Moved, Small,
// Beyond and Missing.
type Coverage struct {
	Files   int   `json:"files"`   // that the profile names
	Found   int   `json:"found"`   // of these, files of which something was found
	Bytes   int64 `json:"bytes"`   // that the profile names
	Same    int64 `json:"same"`    // at the same path, with the same data, or data that the profile has no digest of
	Changed int64 `json:"changed"` // at the same path, with other data: it is taken to be used alike
	Moved   int64 `json:"moved"`   // known by its digest at another place
	Small   int64 `json:"small"`   // of files without blocks of their own: the metadata has them, or they are holes
	Beyond  int64 `json:"beyond"`  // behind the end of a file, which became shorter
	Missing int64 `json:"missing"` // nowhere to be found
	Left    int64 `json:"left"`    // found, and left where it is as there is more than MaxBytes
}

// Use is how much of the profile is of use, between 0 and 1: what was found, and what needs not be fetched.
func (c Coverage) Use() float64 {
	if c.Bytes == 0 {
		return 0
	}
	return float64(c.Same+c.Changed+c.Moved+c.Small) / float64(c.Bytes)
}

// Touch is a range of a file that a profile was found to name: whole blocks, with data.
type Touch struct {
	File     *erofs.Inode
	Off, Len int64 // bytes, multiples of erofs.BlockSize
}

// Find matches a profile with a tree whose devices are given in the order of their slots: by path, and what is not where it was by digest. Touches come in the order of the profile.
// They overlap where it names a file by several paths.
func Find(root *erofs.Inode, devices []Device, p *profile.Profile) ([]Touch, Coverage) {
	m := matcher{tree: newTree(root), devices: devices}
	entries := p.Disjoint()
	m.learn(entries)
	return m.match(entries)
}

// Identify gives the entries of a profile that was recorded with this very tree the sizes of their files and the digests of their data, and cuts them where the data
// is cut. What is not in the tree stays as it is.
func Identify(root *erofs.Inode, devices []Device, p *profile.Profile) {
	t := newTree(root)
	m := matcher{tree: t, devices: devices}
	var all []profile.Entry
	for _, e := range p.Entries {
		n := t.find(e.Path)
		if n == nil || !n.IsRegular() {
			all = append(all, e)
			continue
		}
		e.Size = n.Size
		if all = m.identify(all, n, e); len(all) > profile.MaxEntries {
			return // digests would make it too long to be kept
		}
	}
	p.Entries = all
}

// identify appends an entry, cut where the data of its file is cut, until there are more entries than a profile may have.
func (m *matcher) identify(all []profile.Entry, n *erofs.Inode, e profile.Entry) []profile.Entry {
	for end := e.Off + e.Len; e.Off < end && len(all) <= profile.MaxEntries; {
		part := e
		part.Len = end - e.Off
		part.Digest = profile.Digest{}
		if pc, ok := m.pieceAt(n, e.Off); ok {
			part.Digest = pc.digest
			part.Len = min(part.Len, pc.off+pc.len-e.Off)
		} else if next := nextData(n, e.Off); next > e.Off {
			part.Len = min(part.Len, next-e.Off)
		}
		all = append(all, part)
		e.Off += part.Len
	}
	return all
}

// extentAt returns the number of the extent that has the byte off of a file, or the first behind it and false.
func extentAt(n *erofs.Inode, off int64) (i int, ok bool) {
	i, ok = slices.BinarySearchFunc(n.Extents, off, func(e erofs.Extent, off int64) int {
		switch {
		case end(e) <= off:
			return -1
		case e.Off > off:
			return 1
		}
		return 0
	})
	return i, ok
}

// end is the first byte behind the blocks of an extent.
func end(e erofs.Extent) int64 { return e.Off + roundUp(e.Len, erofs.BlockSize) }

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// nextData is where the next extent begins behind a byte that has none, or a negative number.
func nextData(n *erofs.Inode, off int64) int64 {
	if i, ok := extentAt(n, off); !ok && i < len(n.Extents) {
		return n.Extents[i].Off
	}
	return -1
}
