package blob

import (
	"encoding/binary"
	"fmt"
	"math"
)

// NewMap makes the map of the given frames, in blob order, over source objects of the given sizes. It refuses what [Parse] would refuse. Equal
// arguments give equal bytes.
func NewMap(sourceSizes []int64, frames []Frame) (*Map, error) {
	size := headerLen + int64(len(sourceSizes))*sourceLen + int64(len(frames))*frameLen
	if size > MaxMapSize {
		return nil, fmt.Errorf("make blob map of %d frames: it would have %d bytes, at most %d are allowed", len(frames), size, MaxMapSize)
	}
	b, le := make([]byte, size), binary.LittleEndian
	copy(b[offMagic:], magic)
	le.PutUint32(b[offVersion:], version)
	le.PutUint32(b[offFrames:], uint32(len(frames)))
	le.PutUint32(b[offSources:], uint32(len(sourceSizes)))
	for i, n := range sourceSizes {
		le.PutUint64(b[headerLen+i*sourceLen+srcSize:], uint64(n))
	}
	var end int64
	for i, f := range frames {
		if err := f.fits(); err != nil {
			return nil, fmt.Errorf("make blob map: frame %d: %w", i, err)
		}
		f.put(b[headerLen+len(sourceSizes)*sourceLen+i*frameLen:][:frameLen])
		end = f.Off + int64(f.Len)
	}
	le.PutUint64(b[offSize:], uint64(end))
	le.PutUint32(b[offCRC:], checksum(b))
	return Parse(b)
}

// fits refuses values that the record's fields cannot hold; Parse finds the rest.
func (f Frame) fits() error {
	if f.Off < 0 || f.Len < 0 || f.Len > MaxFrame || f.Off > MaxSize-int64(f.Len) {
		return fmt.Errorf("blob range %d+%d is impossible", f.Off, f.Len)
	}
	if f.Source < 0 || f.Source > math.MaxUint16 {
		return fmt.Errorf("source %d does not exist", f.Source)
	}
	if f.SrcOff < 0 || f.SrcLen < 0 || f.SrcLen > maxSrcLen(MaxFrame) {
		return fmt.Errorf("source range %d+%d is impossible", f.SrcOff, f.SrcLen)
	}
	return nil
}

func (f Frame) put(rec []byte) {
	le := binary.LittleEndian
	le.PutUint64(rec[frOff:], uint64(f.Off))
	le.PutUint64(rec[frSrcOff:], uint64(f.SrcOff))
	le.PutUint32(rec[frLen:], uint32(f.Len))
	le.PutUint32(rec[frSrcLen:], uint32(f.SrcLen))
	le.PutUint16(rec[frSource:], uint16(f.Source))
	rec[frCodec] = uint8(f.Codec)
	copy(rec[frDigest:], f.Digest[:])
}
