package blob

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// The index is little-endian: a header, then a record for each unit in blob order.
const (
	indexMagic   = "PGINUNIT"
	indexVersion = 1

	indexHeaderLen = 24
	unitLen        = 40
)

// Header of an index.
const (
	ixMagic    = 0  // [8]byte
	ixVersion  = 8  // u32
	ixUnits    = 12 // u32, number of records
	ixReserved = 16 // u64, zero
)

// Record of an index.
const (
	unDigest = 0  // [32]byte
	unBlocks = 32 // u32, length in blocks
	unBlock  = 36 // u32, at which it begins
)

const (
	// MaxUnits is how many units an index can have.
	MaxUnits = 4 << 20
	// MaxIndexSize is the largest index, in bytes.
	MaxIndexSize = indexHeaderLen + MaxUnits*unitLen
)

// Unit is file data that lies in one piece within a frame of a blob: a whole small file, padded with zeros to whole blocks.
type Unit struct {
	Digest [32]byte // SHA-256 of its blocks
	Size   int64    // bytes, a positive multiple of BlockSize up to MaxFrame
	Block  uint64   // of the blob, at which it begins
}

// Index is a checked list of units in the order of their blocks, without overlaps. With it a later conversion finds small files in a blob without reading
// the blob; larger files it finds by the digests of the map's frames. It works on the bytes it was parsed from, and its methods may
// be called concurrently.
type Index struct {
	b []byte
	n int
}

// NewIndex makes the index of the given units, in any order. It refuses what [ParseIndex] would refuse. Equal units give equal bytes.
func NewIndex(units []Unit) (*Index, error) {
	if len(units) > MaxUnits {
		return nil, fmt.Errorf("make blob index of %d units: at most %d are possible", len(units), MaxUnits)
	}
	sorted := slices.Clone(units)
	slices.SortFunc(sorted, func(a, b Unit) int { return cmp.Compare(a.Block, b.Block) })
	b, le := make([]byte, indexHeaderLen+len(sorted)*unitLen), binary.LittleEndian
	copy(b[ixMagic:], indexMagic)
	le.PutUint32(b[ixVersion:], indexVersion)
	le.PutUint32(b[ixUnits:], uint32(len(sorted)))
	for i, u := range sorted {
		if u.Size%BlockSize != 0 || u.Size < 0 || u.Size > MaxFrame || u.Block > math.MaxUint32 {
			return nil, fmt.Errorf("make blob index: unit of %d bytes at block %d is impossible", u.Size, u.Block)
		}
		rec := b[indexHeaderLen+i*unitLen:][:unitLen]
		copy(rec[unDigest:], u.Digest[:])
		le.PutUint32(rec[unBlocks:], uint32(u.Size/BlockSize))
		le.PutUint32(rec[unBlock:], uint32(u.Block))
	}
	return ParseIndex(b)
}

// ParseIndex checks the index in b completely and returns it. The index refers to b, which must stay unchanged as long as the index is used.
func ParseIndex(b []byte) (*Index, error) {
	x, err := parseIndex(b)
	if err != nil {
		return nil, fmt.Errorf("parse blob index of %d bytes: %w", len(b), err)
	}
	return x, nil
}

func parseIndex(b []byte) (*Index, error) {
	if len(b) < indexHeaderLen {
		return nil, fmt.Errorf("shorter than the header of %d bytes", indexHeaderLen)
	}
	le := binary.LittleEndian
	if got := b[ixMagic:ixVersion]; string(got) != indexMagic {
		return nil, fmt.Errorf("magic is %q, want %q", got, indexMagic)
	}
	if v := le.Uint32(b[ixVersion:]); v != indexVersion {
		return nil, fmt.Errorf("version is %d, only %d is known", v, indexVersion)
	}
	n := le.Uint32(b[ixUnits:])
	if n > MaxUnits {
		return nil, fmt.Errorf("%d units, at most %d are allowed", n, MaxUnits)
	}
	if want := indexHeaderLen + int64(n)*unitLen; int64(len(b)) != want {
		return nil, fmt.Errorf("%d units need %d bytes", n, want)
	}
	if le.Uint64(b[ixReserved:]) != 0 {
		return nil, errors.New("reserved header bytes are not zero")
	}
	x := &Index{b: b, n: int(n)}
	end := uint64(0) // of the units so far, in blocks
	for i := range x.n {
		u := x.Unit(i)
		if u.Size == 0 || u.Size > MaxFrame {
			return nil, fmt.Errorf("unit %d: length %d is not a positive multiple of %d up to %d", i, u.Size, BlockSize, MaxFrame)
		}
		if u.Block < end {
			return nil, fmt.Errorf("unit %d: begins at block %d, but the units before it end at %d", i, u.Block, end)
		}
		if end = u.Block + uint64(u.Size/BlockSize); end > MaxSize/BlockSize {
			return nil, fmt.Errorf("unit %d: ends at block %d, which no blob has", i, end)
		}
	}
	return x, nil
}

// Units is the number of units.
func (x *Index) Units() int { return x.n }

// Unit returns record i, 0 ≤ i < Units().
func (x *Index) Unit(i int) Unit {
	rec, le := x.b[indexHeaderLen+i*unitLen:][:unitLen], binary.LittleEndian
	return Unit{Digest: [32]byte(rec[unDigest:]), Size: int64(le.Uint32(rec[unBlocks:])) * BlockSize, Block: uint64(le.Uint32(rec[unBlock:]))}
}

// Bytes is the index itself. The caller must not change it.
func (x *Index) Bytes() []byte { return x.b }

// Check reports whether each unit lies within one frame of the map's blob.
func (x *Index) Check(m *Map) error {
	for i := range x.n {
		u := x.Unit(i)
		off := int64(u.Block) * BlockSize
		at := m.Find(off)
		if at < 0 {
			return fmt.Errorf("index of blob %s: unit %d begins behind the blob's end", m.ID(), i)
		}
		if f := m.Frame(at); off+u.Size > f.Off+int64(f.Len) {
			return fmt.Errorf("index of blob %s: unit %d is not within frame %d", m.ID(), i, at)
		}
	}
	return nil
}
