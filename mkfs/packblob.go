package mkfs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/mkfs/internal/units"
)

// Blob is a finished blob: its map and the object that holds its frames, which can be read as long as the [Packed] it belongs to is open.
type Blob struct {
	Map    *blob.Map
	Digest [32]byte // SHA-256 of the object

	store *units.Store
	offs  []int64 // of each frame's stored form in the store
	plan  *plan
}

// Size is the length of the object in bytes.
func (b *Blob) Size() int64 { return b.Map.SourceSize(0) }

// ReadAt reads the object. It may be called concurrently.
func (b *Blob) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read blob object at %d: the offset is negative", off)
	}
	i := sort.Search(len(b.offs), func(i int) bool {
		f := b.Map.Frame(i)
		return f.SrcOff+int64(f.SrcLen) > off
	})
	for ; n < len(p) && i < len(b.offs); i++ {
		f := b.Map.Frame(i)
		skip := off + int64(n) - f.SrcOff
		want := min(int64(len(p)-n), int64(f.SrcLen)-skip)
		m, err := b.store.ReadAt(p[n:n+int(want)], b.offs[i]+skip)
		if n += m; err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Small lists the small files of the blob in its order, each distinct one once, or twice if it has a second place. Pieces of larger files are frames of the map.
func (b *Blob) Small() iter.Seq[blob.Unit] {
	return func(yield func(blob.Unit) bool) {
		for i, f := range b.plan.frames {
			if f.n == 0 {
				continue
			}
			block := uint64(b.Map.Frame(i).Off) / blob.BlockSize
			for _, id := range b.plan.members[f.first : f.first+f.n] {
				u, err := b.store.Small(id)
				if err != nil { // no unit of a finished blob is missing
					return
				}
				if !yield(blob.Unit{Digest: u.Digest, Size: int64(u.Len), Block: block}) {
					return
				}
				block += uint64(u.Len) / blob.BlockSize
			}
		}
	}
}

// pendingFrame is a frame of a plan that may not be finished.
type pendingFrame struct {
	piece units.ID
	small *units.Frame // nil for a piece
}

func (f *pendingFrame) wait(store *units.Store) (units.Unit, error) {
	if f.small == nil {
		return store.Piece(f.piece)
	}
	return f.small.Wait()
}

// write makes the frames of a plan and the map.
func (b *Blob) write(ctx context.Context, store *units.Store, p *plan, window int) error {
	b.store, b.plan = store, p
	queue := make(chan pendingFrame, window)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		for _, f := range p.frames {
			next := pendingFrame{piece: units.ID(f.first)}
			if f.n > 0 {
				var err error
				if next.small, err = store.Frame(p.members[f.first : f.first+f.n]); err != nil {
					return err
				}
			}
			select {
			case queue <- next:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	frames := make([]blob.Frame, 0, len(p.frames))
	var off, stored int64
	g.Go(func() error {
		object, buf := sha256.New(), []byte(nil)
		b.offs = make([]int64, 0, len(p.frames))
		for next := range queue {
			u, err := next.wait(store)
			if err != nil {
				return err
			}
			if int(u.Stored) > cap(buf) {
				buf = make([]byte, u.Stored, 2*u.Stored)
			}
			buf = buf[:u.Stored]
			if _, err := store.ReadAt(buf, u.Off); err != nil {
				return err
			}
			object.Write(buf)
			b.offs = append(b.offs, u.Off)
			frames = append(frames, blob.Frame{Off: off, Len: int(u.Len), SrcOff: stored, SrcLen: int(u.Stored), Codec: u.Codec, Digest: u.Digest})
			off, stored = off+int64(u.Len), stored+int64(u.Stored)
		}
		object.Sum(b.Digest[:0])
		return nil
	})
	err := g.Wait()
	if err == nil {
		b.Map, err = blob.NewMap([]int64{stored}, frames)
	}
	if err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	return nil
}
