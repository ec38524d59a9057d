package blob

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The map is little-endian: a header, then a record for each source object, then a record for each frame in blob order.
const (
	magic   = "PGINBMAP"
	version = 1

	headerLen = 64
	sourceLen = 16
	frameLen  = 64
)

// Header.
const (
	offMagic    = 0  // [8]byte
	offVersion  = 8  // u32
	offReserved = 12 // u32, zero
	offSize     = 16 // u64, bytes of the blob
	offFrames   = 24 // u32, number of frame records
	offSources  = 28 // u32, number of source records
	offUnused   = 32 // [28]byte, zero
	offCRC      = 60 // u32, CRC-32C of the map without these four bytes
)

// Source record.
const (
	srcSize     = 0 // u64, bytes of the source object
	srcReserved = 8 // u64, zero
)

// Frame record.
const (
	frOff      = 0  // u64
	frSrcOff   = 8  // u64
	frLen      = 16 // u32
	frSrcLen   = 20 // u32
	frSource   = 24 // u16
	frCodec    = 26 // u8
	frReserved = 27 // [5]byte, zero
	frDigest   = 32 // [32]byte
)

// Map is a checked blob map. It works on the bytes it was parsed from, and its methods may be called concurrently.
type Map struct {
	b       []byte
	frames  []byte // the part of b with the frame records
	id      string
	size    int64
	sources int
	n       int
}

// Parse checks the map in b completely, so that the methods of Map need no checks, and returns it. It allocates nothing for frames. The map
// refers to b: b, which may be a read-only memory mapping, must stay unchanged as long as the map is used. The error says which frame or
// field is wrong.
func Parse(b []byte) (*Map, error) {
	m, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("parse blob map of %d bytes: %w", len(b), err)
	}
	return m, nil
}

func parse(b []byte) (*Map, error) {
	if len(b) < headerLen {
		return nil, fmt.Errorf("shorter than the header of %d bytes", headerLen)
	}
	if len(b) > MaxMapSize {
		return nil, fmt.Errorf("more than %d bytes", MaxMapSize)
	}
	if string(b[offMagic:offMagic+len(magic)]) != magic {
		return nil, fmt.Errorf("magic is %q, want %q", b[offMagic:offMagic+len(magic)], magic)
	}
	le := binary.LittleEndian
	if v := le.Uint32(b[offVersion:]); v != version {
		return nil, fmt.Errorf("version is %d, only %d is known", v, version)
	}
	sources, frames := le.Uint32(b[offSources:]), le.Uint32(b[offFrames:])
	if sources > MaxSources {
		return nil, fmt.Errorf("%d source objects, at most %d are allowed", sources, MaxSources)
	}
	if want := headerLen + int64(sources)*sourceLen + int64(frames)*frameLen; int64(len(b)) != want {
		return nil, fmt.Errorf("%d source objects and %d frames need %d bytes", sources, frames, want)
	}
	if got, want := checksum(b), le.Uint32(b[offCRC:]); got != want {
		return nil, fmt.Errorf("checksum is %08x, the header says %08x", got, want)
	}
	if le.Uint32(b[offReserved:]) != 0 || !zero(b[offUnused:offCRC]) {
		return nil, errors.New("reserved header bytes are not zero")
	}
	size := le.Uint64(b[offSize:])
	if size > MaxSize || size%BlockSize != 0 {
		return nil, fmt.Errorf("blob size %d is not a multiple of %d up to %d", size, BlockSize, int64(MaxSize))
	}
	m := &Map{b: b, size: int64(size), sources: int(sources), n: int(frames)}
	m.frames = b[headerLen+m.sources*sourceLen:]
	if err := m.checkSources(); err != nil {
		return nil, err
	}
	if err := m.checkFrames(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	m.id = hex.EncodeToString(sum[:])
	return m, nil
}

func (m *Map) checkSources() error {
	for i := range m.sources {
		rec := m.b[headerLen+i*sourceLen:][:sourceLen]
		if size := binary.LittleEndian.Uint64(rec[srcSize:]); size > math.MaxInt64 {
			return fmt.Errorf("source %d: size %d is over %d", i, size, int64(math.MaxInt64))
		}
		if !zero(rec[srcReserved:]) {
			return fmt.Errorf("source %d: reserved bytes are not zero", i)
		}
	}
	return nil
}

func (m *Map) checkFrames() error {
	var end uint64 // of the frames so far; below 2^44 + MaxFrame, so the sums cannot overflow
	for i := range m.n {
		rec := m.record(i)
		le := binary.LittleEndian
		if off := le.Uint64(rec[frOff:]); off != end {
			return fmt.Errorf("frame %d: blob offset is %d, but the frames before it end at %d", i, off, end)
		}
		n := le.Uint32(rec[frLen:])
		if n == 0 || n > MaxFrame || n%BlockSize != 0 {
			return fmt.Errorf("frame %d: length %d is not a positive multiple of %d up to %d", i, n, BlockSize, MaxFrame)
		}
		if end += uint64(n); end > uint64(m.size) {
			return fmt.Errorf("frame %d: ends at %d, behind the blob's end at %d", i, end, m.size)
		}
		srcLen := le.Uint32(rec[frSrcLen:])
		switch codec := Codec(rec[frCodec]); codec {
		case Raw:
			if srcLen != n {
				return fmt.Errorf("frame %d: raw frame of %d bytes has source length %d", i, n, srcLen)
			}
		case Zstd:
			if srcLen == 0 || uint64(srcLen) > uint64(maxSrcLen(int(n))) {
				return fmt.Errorf("frame %d: source length %d is out of range for %d bytes", i, srcLen, n)
			}
		default:
			return fmt.Errorf("frame %d: codec %d is unknown", i, codec)
		}
		src := int(le.Uint16(rec[frSource:]))
		if src >= m.sources {
			return fmt.Errorf("frame %d: source %d does not exist, there are %d", i, src, m.sources)
		}
		srcOff, srcSize := le.Uint64(rec[frSrcOff:]), uint64(m.SourceSize(src))
		if uint64(srcLen) > srcSize || srcOff > srcSize-uint64(srcLen) {
			return fmt.Errorf("frame %d: source range %d+%d is not within source %d of %d bytes", i, srcOff, srcLen, src, srcSize)
		}
		if !zero(rec[frReserved:frDigest]) {
			return fmt.Errorf("frame %d: reserved bytes are not zero", i)
		}
	}
	if end != uint64(m.size) {
		return fmt.Errorf("frames end at %d, before the blob's end at %d", end, m.size)
	}
	return nil
}

func (m *Map) record(i int) []byte { return m.frames[i*frameLen:][:frameLen:frameLen] }

// ID is the blob's name: the SHA-256 of the map, 64 hex digits.
func (m *Map) ID() string { return m.id }

// Size is the blob's size in bytes, a multiple of BlockSize.
func (m *Map) Size() int64 { return m.size }

// Frames is the number of frames.
func (m *Map) Frames() int { return m.n }

// Sources is the number of source objects.
func (m *Map) Sources() int { return m.sources }

// SourceSize is the size of source object i, 0 ≤ i < Sources(), in bytes.
func (m *Map) SourceSize(i int) int64 {
	return int64(binary.LittleEndian.Uint64(m.b[headerLen+i*sourceLen+srcSize:]))
}

// Bytes is the map itself. The caller must not change it.
func (m *Map) Bytes() []byte { return m.b }

// Frame returns record i, 0 ≤ i < Frames().
func (m *Map) Frame(i int) Frame {
	rec, le := m.record(i), binary.LittleEndian
	return Frame{
		Off:    int64(le.Uint64(rec[frOff:])),
		Len:    int(le.Uint32(rec[frLen:])),
		Source: int(le.Uint16(rec[frSource:])),
		SrcOff: int64(le.Uint64(rec[frSrcOff:])),
		SrcLen: int(le.Uint32(rec[frSrcLen:])),
		Codec:  Codec(rec[frCodec]),
		Digest: [32]byte(rec[frDigest:]),
	}
}

// Find returns the index of the frame that holds the blob's byte off, or -1 when off is outside of the blob. It takes O(log n) steps.
func (m *Map) Find(off int64) int {
	if off < 0 || off >= m.size {
		return -1
	}
	lo, hi := 0, m.n-1 // the frame is in [lo, hi]
	for lo < hi {
		mid := int(uint(lo+hi+1) / 2)
		if int64(binary.LittleEndian.Uint64(m.record(mid)[frOff:])) <= off {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// checksum is the CRC-32C of b without the checksum field.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(b[:offCRC], table), table, b[headerLen:])
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
