package mkfs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow bounds the memory of the zstd decoder. It is what zstd -d accepts without further options.
	maxWindow = 128 << 20
	// tarMagicAt is where tars since POSIX.1-1988 say that they are one, with tarMagic.
	tarMagicAt = 257
	tarMagic   = "ustar"
)

// Decompress returns the plain stream of r, a tar that may be compressed with gzip or zstd. Its first bytes are believed, whatever a media
// type says, as by container runtimes. Other compressions are an error. The caller closes the stream, which does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 128<<10)
	start, err := buffered.Peek(tarMagicAt + len(tarMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("read gzip header: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(start, []byte{0x28, 0xb5, 0x2f, 0xfd}), isSkippable(start):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("start zstd decoder: %w", err)
		}
		return z.IOReadCloser(), nil
	case len(start) > tarMagicAt && string(start[tarMagicAt:]) == tarMagic: // the name of the first member may look like what follows
		return io.NopCloser(buffered), nil
	}
	for _, other := range []struct{ name, magic string }{{"bzip2", "BZh"}, {"xz", "\xfd7zXZ\x00"}, {"lz4", "\x04\x22\x4d\x18"}} {
		if bytes.HasPrefix(start, []byte(other.magic)) {
			return nil, fmt.Errorf("the stream is compressed with %s: only gzip and zstd are supported", other.name)
		}
	}
	return io.NopCloser(buffered), nil
}

// isSkippable recognizes the frames of zstd that hold no data, with which a stream may begin.
func isSkippable(start []byte) bool {
	return len(start) >= 4 && start[0]&0xf0 == 0x50 && bytes.Equal(start[1:4], []byte{0x2a, 0x4d, 0x18})
}

// contextReader ends reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
