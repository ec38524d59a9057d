package mkfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"slices"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/atomicfile"
)

// hashMemory is the length up to which a file from a stream is held in memory until its digest is known.
const hashMemory = 4 << 20

// Stats counts file data, in bytes.
type Stats struct {
	Files    int64 // regular files with data that were met, hard links once
	Bytes    int64 // their data, holes left out
	Shared   int64 // of these, what was there already and is not stored again
	Inlined  int64 // of these, what is kept in the metadata
	Appended int64 // of these, what went to the sink
}

// key identifies content: SHA-256 of the data of a file, or of its layout and data if it has holes.
type key [sha256.Size]byte

// content is where a file's data is. Equal files share one.
type content struct {
	extents []erofs.Extent // until Finish, Block is a Ref of the sink
	inline  erofs.Inline
	digest  *key // SHA-256 of the file, if Options.Digests wants it
}

// give has an inode refer to the content.
func (c content) give(n *erofs.Inode) {
	n.Extents, n.Inline, n.Digest = c.extents, c.inline, (*[sha256.Size]byte)(c.digest)
}

// keys identify a file's data, as far as they are wanted.
type keys struct {
	whole  *key  // of the file
	chunks []key // of its chunks, where files are stored in such
}

// store puts file contents into a sink and the spool, each once.
type store struct {
	opts     Options
	stats    Stats
	inline   *spool
	sink     Sink // the one that data went to, or nil
	contents map[key]content
	chunks   map[key]Ref        // places of pieces of file data
	lengths  map[int64]struct{} // of stored data that is in contents: what has another length needs no look
	extents  [][]erofs.Extent   // one for each content with extents
	tail     [erofs.BlockSize]byte
	buf      []byte
}

func newStore(o Options, inline *spool) store {
	return store{opts: o, inline: inline, contents: map[key]content{}, chunks: map[key]Ref{}, lengths: map[int64]struct{}{}}
}

// use makes sure that all data goes to one sink: pieces of a file that is shared in parts must not lie on different devices, as some kernels misread that (see
// packextents.go).
func (st *store) use(s Sink) error {
	if st.sink != nil && st.sink != s {
		return errors.New("store file data: a tree has one sink")
	}
	st.sink = s
	return nil
}

// inlined reports whether a whole file goes to the metadata.
func (st *store) inlined(l layout) bool {
	return l.size <= int64(st.opts.InlineLimit) && l.isWhole()
}

// split returns how much of a file's data goes to the sink, the rest being a tail.
func (st *store) split(l layout) (body int64) {
	body = l.stored()
	if !l.isWhole() {
		return body
	}
	if tail := l.size % erofs.BlockSize; tail <= int64(st.opts.TailLimit) || st.inlined(l) {
		body -= tail
	}
	return body
}

// storeCollector stores the data of a tar while it is scanned.
type storeCollector struct {
	st   *store
	sink Sink
}

func (c storeCollector) add(_ string, ino *erofs.Inode, l layout, r io.Reader) error {
	stored, err := c.st.addStream(l, r, c.sink)
	stored.give(ino)
	return err
}

// addStream stores a file of which r gives the spans one after the other.
func (st *store) addStream(l layout, r io.Reader, s Sink) (content, error) {
	length := l.stored()
	if length == 0 {
		return content{}, nil
	}
	if st.inChunks(l) {
		return st.streamChunks(l, r, s)
	}
	if length <= hashMemory {
		data := st.memory(length)
		if _, err := io.ReadFull(r, data); err != nil {
			return content{}, err
		}
		var k keys
		if st.opts.Digests || !st.inlined(l) {
			whole := digest(l, data)
			k.whole = &whole
		}
		return st.add(l, k, bytes.NewReader(data), s)
	}
	h := newHash(l)
	if _, seen := st.lengths[length]; !seen {
		c, err := st.put(l, io.TeeReader(r, h), s)
		if err == nil {
			k := key(h.Sum(nil))
			c.digest = st.wanted(l, &k)
			st.remember(k, length, c)
		}
		return c, err
	}
	// There may be an equal file, so the data waits in a temporary file until its digest is known.
	f, err := atomicfile.Temp(st.opts.TempDir)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	if _, err := io.Copy(f, io.TeeReader(r, h)); err != nil {
		return content{}, err
	}
	return st.addHashed(l, key(h.Sum(nil)), io.NewSectionReader(f, 0, length), s)
}

// memory returns scratch memory that is valid until the next call.
func (st *store) memory(size int64) []byte {
	if int64(cap(st.buf)) < size {
		st.buf = make([]byte, max(size, 64<<10))
	}
	return st.buf[:size]
}

// add stores a file whose digests, if any, are known.
func (st *store) add(l layout, k keys, r io.Reader, s Sink) (c content, err error) {
	switch {
	case k.chunks != nil:
		c, err = st.addChunks(l, s, func(i int, _ span) (key, io.Reader, error) { return k.chunks[i], r, nil })
	case k.whole != nil && !st.inlined(l):
		return st.addHashed(l, *k.whole, r, s)
	default:
		c, err = st.put(l, r, s)
	}
	c.digest = st.wanted(l, k.whole)
	return c, err
}

// wanted returns the key of a file if it is to be in the image: the SHA-256 of its content.
func (st *store) wanted(l layout, k *key) *key {
	if !st.opts.Digests || !l.isWhole() {
		return nil
	}
	return k
}

// addHashed stores a file whose digest is known, unless an equal one is there.
func (st *store) addHashed(l layout, k key, r io.Reader, s Sink) (content, error) {
	if c, ok := st.find(k, l); ok {
		return c, nil
	}
	c, err := st.put(l, r, s)
	if err == nil {
		c.digest = st.wanted(l, &k)
		st.remember(k, l.stored(), c)
	}
	return c, err
}

func (st *store) find(k key, l layout) (content, bool) {
	c, ok := st.contents[k]
	if ok {
		st.count(l)
		st.stats.Shared += l.stored()
	}
	return c, ok
}

func (st *store) remember(k key, length int64, c content) {
	st.contents[k] = c
	st.lengths[length] = struct{}{}
}

func (st *store) count(l layout) {
	st.stats.Files++
	st.stats.Bytes += l.stored()
	st.opts.Progress(st.stats)
}

// put stores a file's data without looking for an equal one.
func (st *store) put(l layout, r io.Reader, s Sink) (content, error) {
	var c content
	st.count(l)
	body := st.split(l)
	tail := l.stored() - body
	if body > 0 {
		if err := st.use(s); err != nil {
			return c, err
		}
		spans := l.spans
		if tail > 0 {
			spans = []span{{0, body}}
		}
		c.extents = make([]erofs.Extent, 0, len(spans))
		for _, sp := range spans {
			ref, err := s.Append(r, sp.len)
			if err != nil {
				return c, err
			}
			c.extents = append(c.extents, erofs.Extent{Off: sp.off, Len: sp.len, Block: uint64(ref)})
		}
		st.extents = append(st.extents, c.extents)
		st.stats.Appended += body
	}
	if tail > 0 {
		data := st.tail[:tail]
		if _, err := io.ReadFull(r, data); err != nil {
			return c, err
		}
		off, err := st.inline.append(data)
		if err != nil {
			return c, err
		}
		c.inline = erofs.Inline{Off: off, Len: int(tail)}
		st.stats.Inlined += tail
	}
	return c, nil
}

// resolve puts devices and blocks into all extents. The sink must be closed.
func (st *store) resolve() {
	for _, extents := range st.extents {
		for i := range extents {
			e := &extents[i]
			e.Device, e.Block = st.sink.Place(Ref(e.Block))
		}
	}
	st.extents, st.contents, st.chunks, st.lengths, st.buf = nil, nil, nil, nil, nil
}

// newHash returns the hash that gives the key of a file's data.
func newHash(l layout) hash.Hash {
	h := sha256.New()
	if !l.isWhole() {
		h.Write(l.prefix())
	}
	return h
}

// digest is newHash over data in memory.
func digest(l layout, data []byte) key {
	if l.isWhole() {
		return sha256.Sum256(data)
	}
	h := newHash(l)
	h.Write(data)
	return key(h.Sum(nil))
}

// prefix describes the holes of a layout, so that equal data at other places is other content.
func (l layout) prefix() []byte {
	b := slices.Grow([]byte("sparse\x00"), 16*len(l.spans)+16)
	b = binary.LittleEndian.AppendUint64(b, uint64(l.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(l.spans)))
	for _, s := range l.spans {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.off))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.len))
	}
	return b
}
