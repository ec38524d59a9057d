package mkfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/pagein/pagein/erofs"
)

// MaxChunkSize is the largest value of [Options.ChunkSize], in bytes. A chunk of a tar is held in memory until its digest is known.
const MaxChunkSize = 16 << 20

func checkChunkSize(size int64) error {
	if size != 0 && (size < erofs.BlockSize || size > MaxChunkSize || size&(size-1) != 0) {
		return fmt.Errorf("chunk size of %d bytes: want a power of two from %d to %d", size, erofs.BlockSize, MaxChunkSize)
	}
	return nil
}

// inChunks reports whether a file is stored in chunks, each of which is shared with equal ones.
func (st *store) inChunks(l layout) bool {
	return st.opts.ChunkSize > 0 && !st.inlined(l)
}

// cut returns the chunks of a layout: its spans, cut where the file has a multiple of the chunk size.
func (st *store) cut(l layout) []span {
	size := st.opts.ChunkSize
	var all []span
	for _, s := range l.spans {
		for s.len > 0 {
			n := min(s.len, size-s.off%size)
			all = append(all, span{s.off, n})
			s = span{s.off + n, s.len - n}
		}
	}
	return all
}

// chunkKeys computes the digests of a file's chunks, of which r gives the data one after the other. It may be called concurrently.
func (st *store) chunkKeys(l layout, r io.Reader, scratch []byte) ([]key, error) {
	chunks := st.cut(l)
	keys := make([]key, len(chunks))
	h := sha256.New()
	for i, c := range chunks {
		h.Reset()
		n, err := io.CopyBuffer(h, io.LimitReader(r, c.len), scratch)
		if err != nil {
			return nil, err
		}
		if n < c.len {
			return nil, io.ErrUnexpectedEOF
		}
		h.Sum(keys[i][:0])
	}
	return keys, nil
}

// chunkKeysOf is chunkKeys of data in memory.
func (st *store) chunkKeysOf(l layout, data []byte) []key {
	chunks := st.cut(l)
	keys := make([]key, len(chunks))
	for i, c := range chunks {
		keys[i] = sha256.Sum256(data[:c.len])
		data = data[c.len:]
	}
	return keys
}

// addChunks stores a file chunk by chunk. next returns the digest of a chunk, which are asked for in order, and a reader of its data.
func (st *store) addChunks(l layout, s Sink, next func(i int, part span) (key, io.Reader, error)) (content, error) {
	st.count(l)
	if err := st.use(s); err != nil {
		return content{}, err
	}
	chunks := st.cut(l)
	c := content{extents: make([]erofs.Extent, len(chunks))}
	for i, part := range chunks {
		k, r, err := next(i, part)
		if err != nil {
			return content{}, err
		}
		ref, ok := st.chunks[k]
		if ok {
			st.stats.Shared += part.len
			err = discard(r, part.len)
		} else {
			if ref, err = s.Append(r, part.len); err == nil {
				st.chunks[k] = ref
				st.stats.Appended += part.len
			}
		}
		if err != nil {
			return content{}, err
		}
		c.extents[i] = erofs.Extent{Off: part.off, Len: part.len, Block: uint64(ref)}
	}
	st.extents = append(st.extents, c.extents)
	return c, nil
}

// discarder is a reader that can leave out data without reading it.
type discarder interface {
	// discard leaves out the next size bytes.
	discard(size int64)
}

func discard(r io.Reader, size int64) error {
	if d, ok := r.(discarder); ok {
		d.discard(size)
		return nil
	}
	_, err := io.CopyN(io.Discard, r, size)
	return err
}

// streamChunks is addChunks for a stream, of which it holds one chunk in memory at a time.
func (st *store) streamChunks(l layout, r io.Reader, s Sink) (content, error) {
	var whole hash.Hash
	if st.opts.Digests && l.isWhole() {
		whole = sha256.New()
		r = io.TeeReader(r, whole)
	}
	c, err := st.addChunks(l, s, func(_ int, part span) (key, io.Reader, error) {
		data := st.memory(part.len)
		if _, err := io.ReadFull(r, data); err != nil {
			return key{}, nil, err
		}
		return sha256.Sum256(data), bytes.NewReader(data), nil
	})
	if err == nil && whole != nil {
		c.digest = (*key)(whole.Sum(nil))
	}
	return c, err
}
