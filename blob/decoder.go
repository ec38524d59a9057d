package blob

import (
	"crypto/sha256"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Decoder turns source bytes into verified frames. It may be used concurrently; at most as many frames as it was made for are decompressed
// at the same time, further callers wait.
type Decoder struct {
	zstd *zstd.Decoder
}

// NewDecoder returns a decoder that decompresses up to concurrency frames at a time, with some 100 KiB of working memory for each.
func NewDecoder(concurrency int) (*Decoder, error) {
	z, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(concurrency),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxFrame),
		zstd.WithDecodeAllCapLimit(true), // output never grows beyond the frame
		zstd.IgnoreChecksum(true))        // the SHA-256 is checked instead
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder for %d frames at a time: %w", concurrency, err)
	}
	return &Decoder{zstd: z}, nil
}

// Decode decodes src, the frame's source bytes, into dst and verifies the result. Both must have exactly the lengths that the frame says, and
// may be the same memory if the frame is raw. If the error is [ErrCorrupt], the source bytes are wrong; dst then holds
// unverified bytes that must not be used.
func (d *Decoder) Decode(dst, src []byte, f Frame) error {
	if len(dst) != f.Len || len(src) != f.SrcLen {
		return fmt.Errorf("decode frame at %d: buffers of %d and %d bytes for %d and %d", f.Off, len(dst), len(src), f.Len, f.SrcLen)
	}
	switch f.Codec {
	case Raw:
		if len(src) != len(dst) {
			return fmt.Errorf("decode frame at %d: %w: raw frame of %d bytes has %d source bytes", f.Off, ErrCorrupt, f.Len, f.SrcLen)
		}
		copy(dst, src)
	case Zstd:
		out, err := d.zstd.DecodeAll(src, dst[:0:len(dst)])
		if err != nil {
			return fmt.Errorf("decode frame at %d: %w: %w", f.Off, ErrCorrupt, err)
		}
		if len(out) != len(dst) {
			return fmt.Errorf("decode frame at %d: %w: %d bytes instead of %d", f.Off, ErrCorrupt, len(out), f.Len)
		}
		if &out[0] != &dst[0] { // the library may have grown a buffer of its own
			copy(dst, out)
		}
	default:
		return fmt.Errorf("decode frame at %d: codec %d is unknown", f.Off, f.Codec)
	}
	if sum := sha256.Sum256(dst); sum != f.Digest {
		return fmt.Errorf("decode frame at %d: %w: SHA-256 is %x, the map says %x", f.Off, ErrCorrupt, sum, f.Digest)
	}
	return nil
}

// Close frees the decoder. It must not be in use.
func (d *Decoder) Close() { d.zstd.Close() }
