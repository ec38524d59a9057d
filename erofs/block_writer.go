package erofs

import "io"

// blockBuffer is the size of the writer's buffer in blocks. It must be larger than openBlocks, which stay in it when it is written.
const blockBuffer = 128

// blockWriter assembles blocks in memory and writes them in ascending order. Bytes may be set out of order within the last openBlocks
// blocks. It keeps the first error.
type blockWriter struct {
	w   io.WriterAt
	off int64 // of buf in the image
	buf []byte
	err error
}

func newBlockWriter(w io.WriterAt, off int64) *blockWriter {
	return &blockWriter{w: w, off: off, buf: make([]byte, blockBuffer*BlockSize)}
}

// at returns n bytes of the image for the caller to set, zero where nothing was set before. n is at most BlockSize. The slice is valid until
// the next call.
func (b *blockWriter) at(pos int64, n int) []byte {
	for pos+int64(n) > b.off+int64(len(b.buf)) {
		b.slide()
	}
	return b.buf[pos-b.off:][:n]
}

// put sets any number of bytes.
func (b *blockWriter) put(pos int64, data []byte) {
	for len(data) > 0 {
		n := copy(b.at(pos, min(len(data), BlockSize)), data)
		pos += int64(n)
		data = data[n:]
	}
}

func (b *blockWriter) slide() {
	n := (blockBuffer - openBlocks) * BlockSize
	b.write(n)
	kept := copy(b.buf, b.buf[n:])
	clear(b.buf[kept:])
	b.off += int64(n)
}

func (b *blockWriter) write(n int) {
	if b.off == 0 {
		sealSuper(b.buf[:BlockSize])
	}
	if b.err == nil && n > 0 {
		_, b.err = b.w.WriteAt(b.buf[:n], b.off)
	}
}

// finish writes what is left up to end, the length of the image, and returns the first error.
func (b *blockWriter) finish(end int64) error {
	for b.off+int64(len(b.buf)) < end {
		b.slide()
	}
	b.write(int(end - b.off))
	return b.err
}

// sealSuper sets the checksum in a complete block 0.
func sealSuper(block []byte) {
	le.PutUint32(block[superOffset+4:], superChecksum(block[superOffset:]))
}
