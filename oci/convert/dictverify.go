package convert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/pagein/pagein/blob"
)

// Verify reads what was found through indexes alone and makes sure that it is there. An index is only what a dictionary's maker says: without this, whoever can write a
// dictionary could put other bytes into every image that is converted with it. For frames of larger files the map says what they hold, and no reader accepts
// other bytes, so they need not be read. Report, unless nil, is told how many of how many bytes are read; calls may come from several goroutines.
func (d *Dictionary) Verify(ctx context.Context, report func(done, total int64)) error {
	claims := make([][]*piece, len(d.blobs))
	var done atomic.Int64
	total := int64(0)
	for i := range d.pieces {
		if p := &d.pieces[i]; p.used && p.claim {
			claims[p.blob] = append(claims[p.blob], p)
			total += p.size()
		}
	}
	read := func(n int64) {
		if n = done.Add(n); report != nil {
			report(n, total)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, pieces := range claims {
		g.Go(func() error {
			if err := d.blobs[i].verify(ctx, pieces, read); err != nil {
				return fmt.Errorf("verify what is borrowed from %s: %w", d.blobs[i].view.Artifact.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// verify reads pieces of the blob, in its order.
func (l *lent) verify(ctx context.Context, pieces []*piece, read func(n int64)) error {
	slices.SortFunc(pieces, func(a, b *piece) int { return cmp.Compare(a.block, b.block) })
	r, buf := l.view.Blob(l.number), []byte(nil)
	for _, p := range pieces {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		buf = slices.Grow(buf[:0], int(p.size()))[:p.size()]
		if _, err := r.ReadAt(buf, int64(p.block)*blob.BlockSize); err != nil {
			return err
		}
		read(p.size())
		if sum := sha256.Sum256(buf); sum != p.digest {
			return fmt.Errorf("blob %s: the index says that the %d blocks at %d have SHA-256 %x, it is %x", l.borrowed.Blob.ID, p.blocks, p.block, p.digest, sum)
		}
	}
	return nil
}
