package erofs

import (
	"bytes"
	"maps"
)

const (
	// maxSharedPerInode is what the head of an xattr area can count.
	maxSharedPerInode = 255
	// maxSharedSize is the longest entry in bytes that is shared: go-erofs 0.3.1 reads this many from where an entry begins, always.
	maxSharedSize = BlockSize
	// maxCandidates bounds the attributes that the writer remembers while it looks for equal ones. It costs about 8 MiB.
	maxCandidates = 1 << 16
)

// sharing finds attributes that several inodes have, and gives each a place in the shared area. Attributes are met twice in the same order:
// first count is called for all, then place. What it decides depends on this order only.
//
// Its memory is bounded: when it remembers maxCandidates, it forgets those that were met least. That costs some sharing in trees with very many
// different attributes, but those that nearly all inodes have stay.
type sharing struct {
	seen   map[uint64]*candidate // by hash; of two with the same hash, the second is not shared
	placed []*candidate          // in the order of the shared area
	size   int64                 // of the shared area in bytes
}

// candidate is an attribute that may be shared.
type candidate struct {
	xattrEntry
	uses   uint32
	placed bool
	off    int64 // in the shared area
}

// count notes a use of an attribute.
func (s *sharing) count(e xattrEntry) {
	if e.size() > maxSharedSize {
		return
	}
	if s.seen == nil {
		s.seen = map[uint64]*candidate{}
	}
	h := e.hash()
	c := s.seen[h]
	switch {
	case c == nil:
		if len(s.seen) >= maxCandidates {
			s.forget()
		}
		s.seen[h] = &candidate{xattrEntry: e, uses: 1}
	case c.equal(e):
		c.uses++
	}
}

// forget drops the candidates that were met least, at least half of them.
func (s *sharing) forget() {
	for limit := uint32(1); len(s.seen) > maxCandidates/2; limit *= 2 {
		maps.DeleteFunc(s.seen, func(_ uint64, c *candidate) bool { return c.uses <= limit })
	}
}

// place returns where an attribute lies in the shared area. It is nil for one that is better stored in its inode.
func (s *sharing) place(e xattrEntry) *candidate {
	c := s.seen[e.hash()]
	if c == nil || !c.equal(e) || !c.worthwhile() {
		return nil
	}
	if !c.placed {
		c.placed, c.off = true, s.size
		s.placed = append(s.placed, c)
		s.size += int64(c.size())
	}
	return c
}

// reach is how many bytes from the beginning of the shared area readers may read.
func (s *sharing) reach() int64 {
	if len(s.placed) == 0 {
		return 0
	}
	return s.placed[len(s.placed)-1].off + maxSharedSize
}

// worthwhile reports whether one entry and a number for each use are shorter than an entry for each use.
func (c *candidate) worthwhile() bool {
	size := uint64(c.size())
	return uint64(c.uses-1)*size > uint64(c.uses)*xattrIDSize
}

func (e xattrEntry) equal(other xattrEntry) bool {
	return e.index == other.index && e.suffix == other.suffix && bytes.Equal(e.value, other.value)
}

// hash is FNV-1a. It must be the same in every process, because colliding attributes are not shared.
func (e xattrEntry) hash() uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (offset ^ uint64(e.index)) * prime
	h = (h ^ uint64(len(e.suffix))) * prime
	for i := range len(e.suffix) {
		h = (h ^ uint64(e.suffix[i])) * prime
	}
	for _, c := range e.value {
		h = (h ^ uint64(c)) * prime
	}
	return h
}
