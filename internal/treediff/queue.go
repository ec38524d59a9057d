package treediff

import (
	"context"
	"errors"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// errStopped ends a visit whose results nobody wants any more.
var errStopped = errors.New("stopped")

// ahead is how many differences may wait for one before them to be settled.
const ahead = 1024

// queue settles differences on all processors and reports them in order.
type queue struct {
	ctx   context.Context
	order chan *pending
	work  chan *pending
}

// pending is a difference that may turn out to be none.
type pending struct {
	d      Difference
	settle func(context.Context, *Difference) // nil if there is nothing to find out
	done   chan struct{}
}

func newQueue(ctx context.Context) *queue {
	return &queue{ctx: ctx, order: make(chan *pending, ahead), work: make(chan *pending, ahead)}
}

// add puts a difference at the end. Only the function that run calls may do so.
func (q *queue) add(d Difference, settle func(context.Context, *Difference)) error {
	p := &pending{d: d, settle: settle, done: make(chan struct{})}
	if settle == nil {
		close(p.done)
	} else {
		select {
		case q.work <- p:
		case <-q.ctx.Done():
			return context.Cause(q.ctx)
		}
	}
	select {
	case q.order <- p:
		return nil
	case <-q.ctx.Done():
		return context.Cause(q.ctx)
	}
}

// run reports what fill adds, and returns when all goroutines have ended.
func (q *queue) run(fill func() error, report func(Difference) error) error {
	g, ctx := errgroup.WithContext(q.ctx)
	q.ctx = ctx
	g.Go(func() error {
		defer close(q.order)
		defer close(q.work)
		return fill()
	})
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for p := range q.work {
				if ctx.Err() == nil {
					p.settle(ctx, &p.d)
				}
				close(p.done)
			}
			return nil
		})
	}
	g.Go(func() error {
		for p := range q.order {
			<-p.done
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if p.d.Err == nil && p.d.Kind == Changed && len(p.d.Attrs) == 0 {
				continue
			}
			if err := report(p.d); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}
