// Package link is a network link in a process: a TCP proxy on loopback with a rate, a round-trip time and TCP's slow start, so that a
// download takes as long as it would from a registry some distance away. Kernels without netem can be used for measurements with it.
//
// It knows bytes and time, nothing of what is transferred. The idea to hold in mind: a direction of the link is one [wire] that all
// connections share; a segment that has left the wire is delivered after half the round-trip time.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config describes a link.
type Config struct {
	Target string        // host:port that every connection is forwarded to
	Rate   int64         // bits per second in each direction, shared by all connections; at least 8
	RTT    time.Duration // round-trip time; half of it each way, and the whole of it once for every new connection; ≥ 0
}

// Link is a running proxy. Its methods may be called concurrently.
type Link struct {
	cfg      Config
	listener net.Listener
	up, down wire
	ctx      context.Context // ends when Close is called: connections live as long as the link, not as long as a call
	stop     context.CancelFunc
	wg       sync.WaitGroup

	bytesUp, bytesDown, conns atomic.Int64
}

// Start listens on a free port of loopback. Close must be called.
func Start(cfg Config) (*Link, error) {
	if cfg.Rate < 8 || cfg.RTT < 0 {
		return nil, fmt.Errorf("link to %s: rate %d bit/s and round-trip time %v: want a byte per second at least and no negative time", cfg.Target, cfg.Rate, cfg.RTT)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("link to %s: %w", cfg.Target, err)
	}
	l := &Link{cfg: cfg, listener: listener, up: wire{rate: cfg.Rate / 8}, down: wire{rate: cfg.Rate / 8}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.wg.Go(l.accept)
	return l, nil
}

// Addr is the host:port that clients connect to.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Counters are what went over a link since it was started.
type Counters struct {
	Down, Up    int64 // bytes delivered to clients and to the target, protocol headers included
	Connections int64 // connections made
}

// Counters returns the current counts.
func (l *Link) Counters() Counters {
	return Counters{Down: l.bytesDown.Load(), Up: l.bytesUp.Load(), Connections: l.conns.Load()}
}

// Close ends all connections and returns when nothing of the link runs any more.
func (l *Link) Close() error {
	l.stop()
	err := l.listener.Close()
	l.wg.Wait()
	return err
}

func (l *Link) accept() {
	for {
		conn, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, or a client that gave up: neither ends the link
			if sleepUntil(l.ctx, time.Now().Add(10*time.Millisecond)) != nil {
				return
			}
			continue
		}
		l.conns.Add(1)
		l.wg.Go(func() { l.forward(conn.(*net.TCPConn)) })
	}
}

// forward serves one connection until both directions have ended or one has failed.
func (l *Link) forward(client *net.TCPConn) {
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	defer client.Close()
	if sleepUntil(ctx, time.Now().Add(l.cfg.RTT)) != nil { // the handshake
		return
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.cfg.Target)
	if err != nil {
		return // the client sees its connection closed, as it would the target's refusal
	}
	target := conn.(*net.TCPConn)
	defer target.Close()
	// Reads and writes that wait for a peer know no context; closing the connections ends them.
	defer context.AfterFunc(ctx, func() {
		client.Close()
		target.Close()
	})()

	var wg sync.WaitGroup
	relay := func(dst, src *net.TCPConn, w *wire, count *atomic.Int64) {
		p := pipe{wire: w, rtt: l.cfg.RTT, count: count, abort: cancel}
		if p.run(ctx, dst, src) != nil || dst.CloseWrite() != nil {
			cancel()
		}
	}
	wg.Go(func() { relay(target, client, &l.up, &l.bytesUp) })
	wg.Go(func() { relay(client, target, &l.down, &l.bytesDown) })
	wg.Wait()
}

// sleepUntil returns at the given time, or earlier with an error when ctx ends.
func sleepUntil(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
