package units

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/pagein/pagein/blob"
)

// job is work for a worker: small units to keep, a piece to keep, or a frame to make. It belongs to one goroutine at a time.
type job struct {
	kind   kind
	data   []byte // padded units, one after the other
	packed []byte // what a worker compressed
	lens   []int  // of the units in data

	in    *Intake // whose units they are
	first int     // number of the first of them there

	frame   *Frame // to make
	members []ID   // of the frame
}

type kind uint8

const (
	smallUnits kind = iota
	onePiece
	makeFrame
)

// batch is how many bytes of small units a job gathers. It bounds nothing but the number of hand-overs.
const batch = 128 << 10

func (j *job) reset() {
	*j = job{data: j.data[:0], packed: j.packed, lens: j.lens[:0], members: j.members[:0]}
}

// fill appends n bytes of r and pads them.
func (j *job) fill(r io.Reader, n int) error {
	at, end := len(j.data), len(j.data)+padded(n)
	j.data = slices.Grow(j.data, end-at)[:end]
	if _, err := io.ReadFull(r, j.data[at:at+n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	clear(j.data[at+n:])
	j.lens = append(j.lens, end-at)
	return nil
}

func padded(n int) int { return (n + blob.BlockSize - 1) &^ (blob.BlockSize - 1) }

func (j *job) do(s *Store, enc *blob.Encoder) error {
	switch j.kind {
	case smallUnits:
		return j.keepSmall(s)
	case onePiece:
		return j.keepPiece(s, enc)
	default:
		return j.makeFrame(s, enc)
	}
}

// done tells whoever waits for the job.
func (j *job) done() {
	if j.frame != nil {
		close(j.frame.done)
	} else {
		j.in.wg.Done()
	}
}

// keepSmall stores those small units that are new in one piece.
func (j *job) keepSmall(s *Store) error {
	ids := make([]ID, len(j.lens))
	fresh := make([]bool, len(j.lens))
	digests := make([][32]byte, len(j.lens))
	at, kept := 0, 0
	for i, n := range j.lens {
		unit := j.data[at : at+n]
		at += n
		digests[i] = sha256.Sum256(unit)
		if ids[i], fresh[i] = s.small.claim(digests[i]); fresh[i] {
			kept += copy(j.data[kept:], unit)
		}
	}
	j.in.put(j.first, ids)
	if kept == 0 {
		return nil
	}
	off, err := s.spool.append(j.data[:kept])
	if err != nil {
		return err
	}
	for i, n := range j.lens {
		if fresh[i] {
			s.small.set(ids[i], Unit{Digest: digests[i], Off: off, Len: uint32(n), Stored: uint32(n)})
			off += int64(n)
		}
	}
	return nil
}

// keepPiece compresses and stores a piece if it is new.
func (j *job) keepPiece(s *Store, enc *blob.Encoder) error {
	digest := sha256.Sum256(j.data)
	id, fresh := s.pieces.claim(digest)
	j.in.put(j.first, []ID{id})
	if !fresh {
		return nil
	}
	u, err := j.encode(s, enc)
	if err != nil {
		return err
	}
	u.Digest = digest
	s.pieces.set(id, u)
	return nil
}

// makeFrame puts small units together.
func (j *job) makeFrame(s *Store, enc *blob.Encoder) error {
	runs, err := j.runs(s)
	if err != nil {
		return err
	}
	for _, u := range runs {
		at, end := len(j.data), len(j.data)+int(u.Len)
		j.data = slices.Grow(j.data, end-at)[:end]
		if _, err := s.spool.ReadAt(j.data[at:], u.Off); err != nil {
			return err
		}
	}
	u, err := j.encode(s, enc)
	if err != nil {
		return err
	}
	u.Digest = sha256.Sum256(j.data)
	j.frame.unit = u
	return nil
}

// runs returns what a frame is to be made of, units that lie behind each other in the temporary file as one.
func (j *job) runs(s *Store) ([]Unit, error) {
	all := make([]Unit, 0, len(j.members))
	for _, id := range j.members {
		u, err := s.Small(id)
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && all[n-1].Off+int64(all[n-1].Len) == u.Off {
			all[n-1].Len += u.Len
			continue
		}
		all = append(all, u)
	}
	return all, nil
}

// encode stores the job's data as a frame.
func (j *job) encode(s *Store, enc *blob.Encoder) (Unit, error) {
	if len(j.data) > s.o.MaxPiece {
		return Unit{}, fmt.Errorf("a frame of %d bytes is longer than %d", len(j.data), s.o.MaxPiece)
	}
	j.packed = slices.Grow(j.packed[:0], blob.EncodeBuffer(len(j.data)))
	stored, codec := enc.Encode(j.packed, j.data)
	off, err := s.spool.append(stored)
	return Unit{Off: off, Len: uint32(len(j.data)), Stored: uint32(len(stored)), Codec: codec}, err
}
