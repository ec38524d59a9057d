package mkfs

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	batchBytes   = 512 << 10 // file data that one batch holds in memory
	batchFiles   = 128       // files of one batch
	largeFile    = 512 << 10 // files from this size on are not read into memory
	stretchBytes = 4 << 20   // of a large file, what one worker copies at a time
)

// loader reads the files of a directory and stores them. Workers take files in order, a batch of small ones or one large one at a time, and read and hash
// them at their own pace; then they store them when their turn has come, so the result does not depend on the number of workers. A sink that is a
// file only says then where data is to lie, and the workers write it there at the same time.
type loader struct {
	tree  *Tree
	top   *opener
	sizes map[int64]int32 // number of files of each size
	sink  Sink

	mu        sync.Mutex
	change    sync.Cond // of what follows
	files     []sourceFile
	taken     int // batches that were taken
	turn      int // number of the batch that is to be stored next
	stretches []stretch
	large     int // large files that were taken and may yet become stretches
	open      map[*openLarge]struct{}
	ended     bool
}

// loadFiles reads and stores files. sizes has the number of files of each size.
func (t *Tree) loadFiles(ctx context.Context, o *opener, files []sourceFile, sizes map[int64]int32, sink Sink) error {
	l := &loader{tree: t, top: o, sizes: sizes, sink: sink, files: files, open: map[*openLarge]struct{}{}}
	l.change.L = &l.mu
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, l.stop)
	defer stop()
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			b := &batch{loader: l}
			for b.next() {
				if err := b.run(ctx); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	err := g.Wait()
	for f := range l.open { // after an error
		err = errors.Join(err, unix.Close(f.fd))
	}
	return err
}

// next has b hold what is to be done next: a stretch, or the next files. It reports false if nothing is left.
func (b *batch) next() bool {
	l := b.loader
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.ended {
		if n := len(l.stretches); n > 0 {
			b.files, b.stretch = nil, l.stretches[n-1]
			l.stretches = l.stretches[:n-1]
			return true
		}
		if len(l.files) > 0 {
			n := batchLength(l.files)
			b.files, l.files = l.files[:n], l.files[n:]
			b.number = l.taken
			l.taken++
			if b.isLarge() {
				l.large++
			}
			return true
		}
		if l.large == 0 {
			return false
		}
		l.change.Wait()
	}
	return false
}

// inTurn calls store once all batches with lower numbers have been stored.
func (l *loader) inTurn(ctx context.Context, number int, store func() error) error {
	l.mu.Lock()
	for l.turn != number && !l.ended {
		l.change.Wait()
	}
	l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := store(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn++
	l.change.Broadcast()
	return nil
}

// share gives the stretches of a large file to whoever has time.
func (l *loader) share(stretches []stretch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.large--
	l.stretches = append(l.stretches, stretches...)
	l.change.Broadcast()
}

// stop has everybody come to an end.
func (l *loader) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.change.Broadcast()
}

// batchLength returns how many of the next files make a batch, at least one. A large file is one of its own.
func batchLength(files []sourceFile) int {
	total := int64(0)
	for i, f := range files {
		if i > 0 && (f.ino.Size >= largeFile || i == batchFiles || total+f.ino.Size > batchBytes) {
			return i
		}
		if f.ino.Size >= largeFile {
			return 1
		}
		total += f.ino.Size
	}
	return len(files)
}
