package mkfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/mkfs/internal/units"
)

// Layer takes one source of a [Pack]. One of its Read methods is to be called, once.
type Layer struct {
	p      *packer
	intake *units.Intake
	files  []packFile
	ids    []units.ID // of all pieces, file by file
	fresh  []bool     // whether a piece got its place in this layer's own blob
	buf    [erofs.BlockSize]byte

	tar *scanned // nil for directories
	dir *erofs.Inode

	done    chan struct{} // closed when all is read
	count   atomic.Int64
	data    atomic.Int64
	figures Figures
}

// packFile is a file whose data is in units.
type packFile struct {
	name   string // clean
	ino    *erofs.Inode
	layout *layout // nil for files without holes
	first  uint32  // number of its first piece in the layer
}

func (f *packFile) shape() layout {
	if f.layout != nil {
		return *f.layout
	}
	return whole(f.ino.Size)
}

// ReadTar reads a tar stream, plain or compressed with gzip or zstd, to its end: see [Tree.AddTar]. It must be the only source.
func (l *Layer) ReadTar(ctx context.Context, r io.Reader) error {
	plain, err := Decompress(r)
	if err == nil {
		err = l.read(ctx, plain, l.p.tree.tarRules())
		_ = plain.Close() // only read
	}
	if err == nil {
		_, err = io.Copy(io.Discard, r) // whoever writes to a pipe must not find it closed
	}
	if err != nil {
		return fmt.Errorf("read tar: %w", err)
	}
	return nil
}

// ReadLayer reads the tar stream of an OCI layer, which is not compressed, to its end: see [Tree.ApplyLayer].
func (l *Layer) ReadLayer(ctx context.Context, r io.Reader) error {
	if err := l.read(ctx, r, layerOfStack); err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	return nil
}

func (l *Layer) read(ctx context.Context, r io.Reader, rules rules) (err error) {
	l.tar, err = l.p.tree.scanTar(ctx, r, l, rules)
	return err
}

// ReadDir reads a directory: see [Tree.AddDir]. It must be the only source.
func (l *Layer) ReadDir(ctx context.Context, dir string) error {
	root, err := l.p.tree.scanDir(ctx, dir, l)
	if err != nil {
		return fmt.Errorf("read directory %s: %w", dir, err)
	}
	l.dir = root
	return nil
}

// Files is the number of files with data so far. It may be called at any time.
func (l *Layer) Files() int64 { return l.count.Load() }

// Bytes is how much data of files was met so far, holes left out. It may be called at any time.
func (l *Layer) Bytes() int64 { return l.data.Load() }

// fill lets a source be read and waits until its data is stored.
func (l *Layer) fill(ctx context.Context, read Read) error {
	err := read(ctx, l)
	ids, closeErr := l.intake.Close()
	if err == nil {
		err = closeErr
	}
	if err == nil && l.tar == nil && l.dir == nil {
		err = errors.New("nothing was read")
	}
	if err != nil {
		return err
	}
	l.ids = ids
	close(l.done)
	return nil
}

// merge puts what was read into the tree.
func (l *Layer) merge(t *Tree) error {
	if l.tar == nil || l.tar.rules != layerOfStack {
		if err := t.begin(); err != nil {
			return err
		}
	}
	if l.tar == nil {
		t.root = l.dir
		return nil
	}
	err := t.merge(l.tar)
	l.tar = nil
	return err
}

// add implements collector.
func (l *Layer) add(name string, ino *erofs.Inode, shape layout, r io.Reader) error {
	stored := shape.stored()
	l.count.Add(1)
	l.data.Add(stored)
	l.figures.Files++
	l.figures.Data += stored
	if stored <= DefaultInlineLimit && shape.isWhole() {
		data := l.buf[:stored]
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		off, err := l.p.tree.inline.append(data)
		ino.Inline = erofs.Inline{Off: off, Len: len(data)}
		l.figures.Inlined += stored
		return err
	}
	f := packFile{name: cleanName(name), ino: ino, first: uint32(l.intake.Units())}
	if !shape.isWhole() {
		f.layout = &shape
	}
	for p := range l.p.cut.pieces(shape) {
		take := l.intake.Piece
		if p.small {
			take = l.intake.Small
		}
		if err := take(r, int(p.len)); err != nil {
			return err
		}
	}
	l.files = append(l.files, f)
	return nil
}

var _ collector = (*Layer)(nil)
