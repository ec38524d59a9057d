package link

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

const (
	// chunk is how many bytes are put on the wire at a time: small enough for connections to share it fairly.
	chunk = initialWindow
	// lead is how long before a chunk has left the next one may be queued: timers are late by tens of microseconds, and the wire must
	// not fall idle for that.
	lead = 2 * time.Millisecond
)

// pipe is one direction of one connection.
type pipe struct {
	wire  *wire
	rtt   time.Duration
	count *atomic.Int64 // bytes delivered
	abort func()        // ends the connection: called when nothing more can be delivered, to wake a read that waits
}

// segment is data on its way to the receiver.
type segment struct {
	data    []byte
	arrival time.Time
}

// run carries bytes from src to dst until src ends, and returns when all of them are delivered. Reads and writes that wait know no context:
// whoever made the pipe closes src and dst when ctx is done or abort is called.
func (p *pipe) run(ctx context.Context, dst io.Writer, src io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// What fits between the two ends, so that the queue itself never limits the rate.
	slots := int(min(float64(p.wire.rate)*(p.rtt/2+lead).Seconds(), maxWindow))/chunk + 2
	queue := make(chan segment, slots)
	buffers := make(chan []byte, slots+2) // one at each end besides
	for range cap(buffers) {
		buffers <- make([]byte, chunk)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for seg := range queue {
			if err := p.deliver(ctx, dst, seg); err != nil {
				cancel(err)
				p.abort()
				return
			}
			buffers <- seg.data[:chunk]
		}
	}()
	err := p.send(ctx, src, queue, buffers)
	close(queue)
	<-done
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// send reads src and puts what it reads on the wire, as fast as wire and window allow.
func (p *pipe) send(ctx context.Context, src io.Reader, queue chan<- segment, buffers <-chan []byte) error {
	var win window
	for {
		var buf []byte
		select {
		case buf = <-buffers:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, err := src.Read(buf)
		if n > 0 {
			for now := time.Now(); ; now = time.Now() {
				at := win.ready(now, n)
				if !at.After(now) {
					break
				}
				if err := sleepUntil(ctx, at); err != nil {
					return err
				}
			}
			depart := p.wire.reserve(n)
			win.sent(n, depart.Add(p.rtt))
			select {
			case queue <- segment{buf[:n], depart.Add(p.rtt / 2)}:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := sleepUntil(ctx, depart.Add(-lead)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *pipe) deliver(ctx context.Context, dst io.Writer, seg segment) error {
	if err := sleepUntil(ctx, seg.arrival); err != nil {
		return err
	}
	n, err := dst.Write(seg.data)
	p.count.Add(int64(n))
	return err
}
