// Package blob knows how file data is packed for lazy loading: blobs, frames, the blob map, and the zstd frames of a blob object.
//
// A blob is a data address space of 4 KiB blocks that the kernel sees as a device. It is cut into frames without gaps; a frame is the
// smallest unit that is fetched, decompressed and verified. The blob map is the table of frames: where in which source object a frame's
// bytes lie, how they are encoded, and the SHA-256 of what they decode to. The SHA-256 of the map is the blob's ID, so whoever trusts the ID can
// check every byte. The map names source objects by index only: where they are kept is not this package's business, nor is the file system
// whose data the blob holds. docs/format.md has the bytes.
//
// [Writer] makes a blob and its object, [Parse] takes a map from an untrusted place, [Decoder] turns source bytes into verified frames.
package blob

import "errors"

const (
	// BlockSize is the unit of blob addresses, in bytes: the kernel's page, and the block size of the EROFS images that use blobs.
	BlockSize = 4096
	// MaxFrame is the largest frame, in bytes. It bounds the memory that decoding one frame needs.
	MaxFrame = 16 << 20
	// MaxSize is the largest blob, in bytes: EROFS addresses the blocks of a device with 32 bits.
	MaxSize = (1<<32 - 1) * BlockSize
	// MaxSources is the most source objects that a map can name.
	MaxSources = 1<<16 - 1
	// MaxMapSize is the largest map, in bytes: 8 million frames, which is 1 TiB in frames of 128 KiB.
	MaxMapSize = 512 << 20
)

// ErrCorrupt says that source bytes are not what the map promises. Fetching them again, or from elsewhere, may help.
var ErrCorrupt = errors.New("corrupt frame")

// Codec says how a frame is encoded in its source object.
type Codec uint8

const (
	Raw  Codec = 0 // the frame's bytes as they are
	Zstd Codec = 1 // one or more zstd frames without a dictionary
)

// String returns the codec's name in lower case.
func (c Codec) String() string {
	switch c {
	case Raw:
		return "raw"
	case Zstd:
		return "zstd"
	}
	return "unknown"
}

// Frame is one record of a map: blob bytes [Off, Off+Len) come from bytes [SrcOff, SrcOff+SrcLen) of a source object.
type Frame struct {
	Off    int64 // in the blob, a multiple of BlockSize
	Len    int   // decoded bytes, a multiple of BlockSize, 1 block to MaxFrame
	Source int   // index of the source object
	SrcOff int64 // in the source object
	SrcLen int   // encoded bytes
	Codec  Codec
	Digest [32]byte // SHA-256 of the decoded bytes
}

// maxSrcLen bounds the encoded length of a frame of n decoded bytes: zstd adds at most 1/256 and a header to what it cannot compress.
func maxSrcLen(n int) int { return n + n/128 + 1024 }
