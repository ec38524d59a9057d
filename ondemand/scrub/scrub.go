// Package scrub verifies all that is in a store: metadata images, blob maps and state against their digests, presence records against their checksums, and each frame that is
// called present against its blob map, read from the disk.
//
// It knows the store and blob maps, and not where bytes come from. The one idea to hold in mind: whoever reads a mount trusts what is present, so nobody but this package
// finds out that a disk has changed it. What is found bad is made absent; somebody else fetches it again.
package scrub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/store"
)

// Part says what of a store has a problem.
type Part string

// The parts.
const (
	PartState  Part = "state"
	PartMeta   Part = "meta"
	PartMap    Part = "map"
	PartRecord Part = "record" // of what is present, or the blob file's length
	PartFrame  Part = "frame"
)

// Problem is one thing that is wrong.
type Problem struct {
	Part     Part
	ID       string // of the meta or blob
	Frame    int    // of a frame
	Off, Len int64  // of a frame: its bytes in the blob
	Err      error
	Repaired bool // it is gone, and will be fetched again when it is needed
}

// Options say how a store is scrubbed. All may be left out.
type Options struct {
	Repair   bool                    // remove what is bad, unless it is in use
	InUse    func(meta string) bool  // whether a metadata image is mounted
	Problem  func(Problem)           // gets what is wrong, as it is found
	Progress func(done, total int64) // bytes of files that were looked at
}

// Result says what was looked at.
type Result struct {
	Metas, Maps, Blobs int
	Frames             int   // that are present
	Bytes              int64 // of those
	Unknown            int   // blobs without a map, which cannot be verified before they are used again
}

// Store verifies a store whose owner is this process. Blobs may be in use meanwhile. The error says what kept it from looking.
func Store(ctx context.Context, s *store.Store, o Options) (Result, error) {
	x := &scrubber{ctx: ctx, store: s, o: o}
	if err := x.run(); err != nil {
		return x.result, fmt.Errorf("check store %s: %w", s.Root(), err)
	}
	return x.result, nil
}

type scrubber struct {
	ctx         context.Context
	store       *store.Store
	o           Options
	result      Result
	done, total int64
	buf         []byte
}

func (x *scrubber) run() error {
	metas, err := x.store.Metas()
	if err != nil {
		return err
	}
	blobs, err := x.store.Blobs()
	if err != nil {
		return err
	}
	for _, k := range append(metas, blobs...) {
		x.total += k.Allocated
	}
	if err := x.store.CheckState(); err != nil {
		x.problem(Problem{Part: PartState, Err: err})
	}
	for _, k := range metas {
		if err := x.meta(k); err != nil {
			return err
		}
		x.progress(k.Allocated)
	}
	for _, k := range blobs {
		if err := x.blob(k); err != nil {
			return err
		}
	}
	return nil
}

func (x *scrubber) problem(p Problem) {
	if x.o.Problem != nil {
		x.o.Problem(p)
	}
}

func (x *scrubber) progress(n int64) {
	x.done += n
	if x.o.Progress != nil {
		x.o.Progress(min(x.done, x.total), x.total)
	}
}

func (x *scrubber) meta(k store.Kept) error {
	x.result.Metas++
	err := x.store.CheckMeta(k.ID)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return context.Cause(x.ctx) // removed meanwhile
	case errors.Is(err, store.ErrDamaged):
		p := Problem{Part: PartMeta, ID: k.ID, Err: err}
		if x.o.Repair && (x.o.InUse == nil || !x.o.InUse(k.ID)) {
			if err := x.store.RemoveMeta(k.ID); err != nil {
				return err
			}
			p.Repaired = true
		}
		x.problem(p)
	case err != nil:
		return err
	}
	return context.Cause(x.ctx)
}

// errNoMap says that the store has no sound map of a blob.
var errNoMap = errors.New("it is not in the store, or damaged")

// blob verifies a blob with its map and record.
func (x *scrubber) blob(k store.Kept) error {
	x.result.Blobs++
	before := x.done
	defer func() { x.progress(k.Allocated - (x.done - before)) }()
	raw, err := x.store.Map(x.ctx, k.ID, func(context.Context, io.Writer) error { return errNoMap })
	if errors.Is(err, errNoMap) {
		return x.noMap(k)
	}
	if err != nil {
		return err
	}
	defer func() { _ = store.Unmap(raw) }() // it was mapped by us
	m, err := blob.Parse(raw)
	if err != nil {
		return fmt.Errorf("map of blob %s: %w", k.ID, err)
	}
	x.result.Maps++
	err = x.store.CheckBlob(k.ID, m.Size(), m.Frames())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // only the map is here
	case errors.Is(err, store.ErrDamaged):
		p := Problem{Part: PartRecord, ID: k.ID, Err: err}
		if !x.o.Repair {
			x.problem(p)
			return nil
		}
		defer func() { x.problem(p) }()
		p.Repaired = true
	case err != nil:
		return err
	}
	return x.frames(k.ID, m)
}

// noMap deals with a blob whose map is gone or damaged.
func (x *scrubber) noMap(k store.Kept) error {
	err := x.store.CheckMap(k.ID)
	if !errors.Is(err, store.ErrDamaged) {
		x.result.Unknown++
		return nil // its next user fetches the map
	}
	p := Problem{Part: PartMap, ID: k.ID, Err: err}
	if x.o.Repair && !k.Open {
		if err := x.store.RemoveMap(k.ID); err != nil {
			return err
		}
		p.Repaired = true
	}
	x.problem(p)
	return nil
}

// frames verifies the frames that are present.
func (x *scrubber) frames(id string, m *blob.Map) (err error) {
	b, err := x.store.InspectBlob(id, m.Size(), m.Frames())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if x.o.Repair {
		// What is damaged of the record is written anew. And what is not on the disk yet cannot be read from there.
		if err := errors.Join(b.Forget(), b.Checkpoint()); err != nil {
			return err
		}
	}
	var bad []Problem
	for i := range m.Frames() {
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		f := m.Frame(i)
		if err := x.frame(b, i, f); err != nil {
			bad = append(bad, Problem{Part: PartFrame, ID: id, Frame: i, Off: f.Off, Len: int64(f.Len), Err: err})
		}
	}
	if x.o.Repair && len(bad) > 0 {
		var frames []int
		for _, p := range bad {
			frames = append(frames, p.Frame)
		}
		if err := b.Forget(frames...); err != nil {
			return err
		}
	}
	for _, p := range bad {
		p.Repaired = x.o.Repair
		x.problem(p)
	}
	return nil
}

// frame returns what is wrong with a frame, nil if it is absent. A frame may be given up, its bytes with it, and come back while it is read: then it is read again.
func (x *scrubber) frame(b *store.Blob, i int, f blob.Frame) (bad error) {
	if len(x.buf) < f.Len {
		x.buf = make([]byte, f.Len)
	}
	for again := true; again; {
		if x.ctx.Err() != nil {
			return nil // nobody wants to know any more
		}
		before := b.Forgotten()
		if !b.Presence().Has(i) {
			return nil
		}
		p := x.buf[:f.Len]
		if _, bad = b.Reread(p, f.Off); bad == nil {
			sum := sha256.Sum256(p)
			if sum == f.Digest {
				break
			}
			bad = fmt.Errorf("%w: its SHA-256 is %x, not %x", store.ErrDamaged, sum, f.Digest)
		}
		again = b.Forgotten() != before
	}
	x.result.Frames++
	x.result.Bytes += int64(f.Len)
	x.progress(int64(f.Len))
	return bad
}
