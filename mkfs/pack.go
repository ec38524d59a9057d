package mkfs

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/mkfs/internal/units"
)

// maxDevices is how many blobs an image can refer to.
const maxDevices = 1<<16 - 1

// PackOptions of [Pack]. The zero value is useful. All but Note and TempDir, and Frames.Workers, are part of "the same input".
type PackOptions struct {
	Frames  blob.WriterOptions // how data is cut and compressed
	Order   Order              // of the data in each blob
	Known   Known              // blobs of earlier conversions that may be referred to; nil means none
	TempDir string             // for temporary files, "" means the system's directory
	Note    func(string)       // see [Options]; called from one goroutine
}

// Read reads one source of a [Pack] into its layer. Several are called at the same time.
type Read func(ctx context.Context, l *Layer) error

// Packed is a tree whose data is in blobs: what a lazy image is made of. It must be closed.
type Packed struct {
	*Tree             // finished
	Devices []Device  // in the order of the image's device slots
	Layers  []Figures // of each source
	store   *units.Store
}

// Device is a blob that the image refers to.
type Device struct {
	Blob  *Blob // nil for a borrowed blob
	Known int   // number of the borrowed blob
}

// Figures count the file data of one source, in bytes where nothing else is said. Each byte of Data is in exactly one of Inlined, SharedFiles, SharedPieces,
// Borrowed and Unique.
type Figures struct {
	Files        int64 // regular files with data, hard links once
	Data         int64 // in files, holes left out
	Inlined      int64 // kept in the metadata
	SharedFiles  int64 // in files all of which is stored already, by this source or one below
	SharedPieces int64 // in pieces of other files that are stored already
	Borrowed     int64 // found in blobs of earlier conversions
	Unique       int64 // stored in the source's own blob
	Blob         *Blob // that blob, or nil
}

// packer is a [Pack] under way.
type packer struct {
	o       PackOptions
	tree    *Tree
	cut     cutter
	store   *units.Store
	plan    planner
	layers  []*Layer
	figures []Figures
}

// Pack reads sources, the layers of an image with the lowest first, or one tar or directory, and makes a tree whose data is in blobs: one blob for each source
// that has data which no source below it has. Sources are read in parallel, as many as there are workers and one more. The same sources and options
// give the same bytes, and the blob of a source depends on nothing above it.
//
// Memory is needed for names and attributes and for where data is, some 500 bytes for each file and 250 for each 128 KiB of larger ones, and for some 4 MiB for each worker;
// a temporary file takes what is new of the data, small files as they are and the rest compressed.
func Pack(ctx context.Context, o PackOptions, sources ...Read) (*Packed, error) {
	p, err := newPacker(ctx, o, len(sources))
	if err != nil {
		return nil, err
	}
	defer p.store.Finish()
	if err := p.run(ctx, sources); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return &Packed{Tree: p.tree, Devices: p.plan.devices, Layers: p.figures, store: p.store}, nil
}

// Close frees the temporary files. Neither the tree nor the blobs can be read after that.
func (p *Packed) Close() error { return errors.Join(p.Tree.Close(), p.store.Close()) }

func newPacker(ctx context.Context, o PackOptions, sources int) (*packer, error) {
	var err error
	if o.Frames, err = o.Frames.Complete(); err != nil {
		return nil, err
	}
	p := &packer{o: o, cut: newCutter(o.Frames)}
	if p.tree, err = New(Options{InlineLimit: DefaultInlineLimit, TempDir: o.TempDir, Note: o.Note}); err != nil {
		return nil, err
	}
	p.store, err = units.New(ctx, units.Options{
		MaxSmall: o.Frames.SmallFile,
		MaxPiece: int(max(p.cut.longest(), int64(o.Frames.SmallFrame))),
		Level:    o.Frames.Level,
		Workers:  o.Frames.Workers,
		Intakes:  parallel(o.Frames.Workers) + 1, // one for the planner
		TempDir:  o.TempDir,
	})
	if err != nil {
		return nil, errors.Join(err, p.tree.Close())
	}
	p.plan = planner{store: p.store, cut: p.cut, room: int64(o.Frames.SmallFrame), known: o.Known, borrowed: map[int]uint16{}, second: map[unitKey]place{}}
	for range sources {
		p.layers = append(p.layers, &Layer{p: p, intake: p.store.Intake(), done: make(chan struct{})})
	}
	return p, nil
}

// parallel is how many sources are read at the same time. A source keeps one core busy with decompressing.
func parallel(workers int) int { return workers + 1 }

func (p *packer) close() error { return errors.Join(p.tree.Close(), p.store.Close()) }

// run reads all sources and makes their blobs as soon as all below them are read.
func (p *packer) run(ctx context.Context, sources []Read) error {
	g, ctx := errgroup.WithContext(ctx)
	turn := make(chan struct{}, parallel(p.o.Frames.Workers))
	g.Go(func() error {
		for i, read := range sources {
			select {
			case turn <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			g.Go(func() error {
				defer func() { <-turn }()
				return p.layers[i].fill(ctx, read)
			})
		}
		return nil
	})
	g.Go(func() error {
		for _, l := range p.layers {
			select {
			case <-l.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := p.finish(ctx, l); err != nil {
				return err
			}
		}
		return p.tree.Finish(Overrides{})
	})
	return g.Wait()
}

// finish puts a layer that was read into the tree and makes its blob.
func (p *packer) finish(ctx context.Context, l *Layer) error {
	if err := l.merge(p.tree); err != nil {
		return err
	}
	plan, err := p.plan.layer(l, p.o.Order.arrange(l.files))
	if err != nil {
		return err
	}
	if plan.device != 0 {
		l.figures.Blob = p.plan.devices[plan.device-1].Blob
		if err := l.figures.Blob.write(ctx, p.store, plan, 2*p.o.Frames.Workers); err != nil {
			return err
		}
	}
	p.figures = append(p.figures, l.figures)
	l.files, l.ids, l.fresh = nil, nil, nil
	return nil
}
