package blob

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
)

// job is one frame on its way through the pipe. It belongs to one goroutine at a time: the writer, a worker, the collector.
type job struct {
	data   []byte // the frame
	packed []byte // its zstd form
	frame  Frame
	done   chan struct{} // gets a value when a worker is through
}

// pipe compresses frames in parallel and writes them in the order of submission. The number of jobs is fixed: who needs one waits until
// one is free.
type pipe struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	object io.Writer

	free  chan *job
	work  chan *job
	order chan *job
	wg    sync.WaitGroup

	// The collector's until it has ended.
	off    int64
	stored int64
	raw    int
	frames []Frame
}

func newPipe(ctx context.Context, object io.Writer, o WriterOptions) *pipe {
	jobs := 2*o.Workers + 2 // one in each worker, as many waiting, one open small frame and one being filled
	p := &pipe{object: object, free: make(chan *job, jobs), work: make(chan *job, jobs), order: make(chan *job, jobs)}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	for range jobs {
		p.free <- &job{done: make(chan struct{}, 1)}
	}
	for range o.Workers {
		p.wg.Go(func() { p.compress(o.Level, max(o.SmallFrame, o.LargeFrame)) })
	}
	p.wg.Go(p.collect)
	return p
}

// job returns an empty job.
func (p *pipe) job() (*job, error) {
	select {
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	default:
	}
	select {
	case j := <-p.free:
		j.data = j.data[:0]
		return j, nil
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
}

// submit takes a filled job. It never waits, as the channels have room for all jobs.
func (p *pipe) submit(j *job) error {
	p.order <- j
	p.work <- j
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	return nil
}

// close waits until everything is written, or, if failed is an error or the pipe has failed, until the goroutines have stopped.
func (p *pipe) close(failed error) error {
	if failed != nil {
		p.cancel(failed)
	}
	close(p.work)
	close(p.order)
	p.wg.Wait()
	err := context.Cause(p.ctx)
	p.cancel(nil)
	return err
}

func (p *pipe) compress(level Level, maxFrame int) {
	enc, err := NewEncoder(level, maxFrame)
	if err != nil {
		p.cancel(err)
		return
	}
	defer enc.Close()
	for j := range p.work {
		if p.ctx.Err() == nil {
			j.encode(enc)
		}
		j.done <- struct{}{}
	}
}

func (j *job) encode(enc *Encoder) {
	j.packed = slices.Grow(j.packed[:0], EncodeBuffer(len(j.data)))
	stored, codec := enc.Encode(j.packed, j.data)
	if codec == Zstd {
		j.packed = stored
	}
	j.frame = Frame{Len: len(j.data), SrcLen: len(stored), Codec: codec, Digest: sha256.Sum256(j.data)}
}

func (p *pipe) collect() {
	for j := range p.order {
		if !p.await(j) {
			return
		}
		if err := p.write(j); err != nil {
			p.cancel(err)
			return
		}
		p.free <- j
	}
}

func (p *pipe) await(j *job) bool {
	select {
	case <-j.done:
		return p.ctx.Err() == nil
	case <-p.ctx.Done():
		return false
	}
}

func (p *pipe) write(j *job) error {
	src := j.packed
	if j.frame.Codec == Raw {
		src = j.data
		p.raw++
	}
	if _, err := p.object.Write(src); err != nil {
		return fmt.Errorf("write frame %d to object: %w", len(p.frames), err)
	}
	j.frame.Off, j.frame.SrcOff = p.off, p.stored
	p.frames = append(p.frames, j.frame)
	p.off += int64(j.frame.Len)
	p.stored += int64(len(src))
	return nil
}
