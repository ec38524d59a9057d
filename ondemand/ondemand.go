// Package ondemand turns "blob B, range R is missing" into fetched, verified and written bytes.
//
// It knows blobs (package blob), where their source objects can be read (package backend) and where the bytes have to go (a Target that a
// transport provides). It must not know kernels' protocols, registries or images' names. The one idea to hold in mind: a frame is the unit of
// everything. It is fetched once however many readers wait, nothing of it is written before all of it is verified, and one bit says that it is there.
package ondemand

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// Options bound what an engine does at a time. Zero values stand for the defaults.
type Options struct {
	Requests      int           // concurrent backend requests, default 32
	RequestBytes  int           // most source bytes asked for in one request, default 4 MiB
	ReadAhead     int64         // most blob bytes fetched beyond a sequential miss, default 32 MiB; negative for no read-ahead and no guesses
	ReadAround    int64         // blob bytes guessed around the first miss in a region, if its backend is far and the link idle, default 768 KiB; negative for no guesses
	HostRequests  int           // concurrent requests to one host, 2 or more; default three quarters of Requests, so that a host that does not answer does not stop the others
	HostBandwidth int64         // source bytes per second from one host; 0 for no limit
	Deadline      time.Duration // after which a reader whose bytes cannot be had gets an error, default 30 s; negative: it waits for as long as it takes
	Attempts      int           // tries for each frame before its readers get an error; 0: as many as the deadline allows, fewer for corrupt bytes
	Backoff       time.Duration // wait before the second try, doubled for each further one up to 5 s, default 200 ms

	Room func(ctx context.Context) bool // called when a target has no space left; reports whether there is some now. nil: nobody can make some
	Free func() int64                   // bytes that are free on the targets' disk; nil: that is not known
}

const (
	// maxBackoff bounds the wait between tries.
	maxBackoff = 5 * time.Second
	// corruptAttempts is how often a frame whose bytes were wrong is tried: it may have been the line, but hardly thrice.
	corruptAttempts = 3
)

func (o Options) withDefaults() Options {
	def := Options{
		Requests: 32, RequestBytes: 4 << 20, ReadAhead: 32 << 20, ReadAround: 768 << 10, HostBandwidth: max(o.HostBandwidth, 0), Deadline: 30 * time.Second, Attempts: max(o.Attempts, 0),
		Backoff: 200 * time.Millisecond, Room: o.Room, Free: o.Free,
	}
	if o.Requests > 0 {
		def.Requests = max(o.Requests, 2)
	}
	if o.RequestBytes > 0 {
		def.RequestBytes = o.RequestBytes
	}
	if o.ReadAhead != 0 {
		def.ReadAhead = max(o.ReadAhead, 0)
	}
	if o.ReadAround != 0 {
		def.ReadAround = min(max(o.ReadAround, 0), region)
	}
	def.HostRequests = max(def.Requests*3/4, 2)
	if o.HostRequests > 0 {
		def.HostRequests = max(o.HostRequests, 2)
	}
	if o.Deadline != 0 {
		def.Deadline = o.Deadline
	}
	if o.Backoff > 0 {
		def.Backoff = o.Backoff
	}
	return def
}

// ErrClosed is what readers get whose bytes were still missing when their blob, or the engine, was closed.
var ErrClosed = errors.New("closed")

// ErrUnbound says that a blob's bytes have nowhere to go, or not yet.
var ErrUnbound = errors.New("nothing is bound to it")

// Engine fetches frames for any number of blobs, within common bounds. Its methods may be called concurrently.
type Engine struct {
	opts  Options
	log   *slog.Logger
	slots *slots
	gate  gate
	space space
	bufs  buffers
	dec   *blob.Decoder
	stats stats

	active atomic.Int64 // backend requests under way

	mu    sync.Mutex
	lanes map[string]*lane        // by host
	kinds map[string]*sourceStats // by kind of backend

	ctx    context.Context // ends when Close is called
	cancel context.CancelCauseFunc
}

// New returns an engine that logs to log.
func New(log *slog.Logger, o Options) (*Engine, error) {
	o = o.withDefaults()
	dec, err := blob.NewDecoder(o.Requests)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Engine{
		opts: o, log: log, slots: newSlots(o.Requests), space: space{free: o.Free}, dec: dec, stats: newStats(), ctx: ctx, cancel: cancel,
		lanes: make(map[string]*lane), kinds: make(map[string]*sourceStats),
	}, nil
}

// Blob makes a blob fetchable: objects[i] is the source object that its map calls i. Bytes have nowhere to go until [Blob.Bind].
func (e *Engine) Blob(m *blob.Map, objects []backend.Object) (*Blob, error) {
	if len(objects) != m.Sources() {
		return nil, fmt.Errorf("open blob %s: its map names %d source objects, %d were given", m.ID(), m.Sources(), len(objects))
	}
	for i, o := range objects {
		if o.Size() < m.SourceSize(i) {
			return nil, fmt.Errorf("open blob %s: source object %s has %d bytes, the map says %d", m.ID(), o, o.Size(), m.SourceSize(i))
		}
	}
	b := &Blob{engine: e, m: m, inflight: make(map[int]*fetching), used: newUsed(m.Frames()), rebound: make(chan struct{})}
	for _, o := range objects {
		b.sources = append(b.sources, e.source(o))
	}
	b.ctx, b.cancel = context.WithCancelCause(e.ctx)
	return b, nil
}

// Close ends all fetches; readers that wait get [ErrClosed]. Each blob's Close then waits for what is left of them.
func (e *Engine) Close() { e.cancel(ErrClosed) }

// Deadline is how long readers wait for bytes that cannot be had, unless their blob has a deadline of its own; negative: for as long as it takes.
func (e *Engine) Deadline() time.Duration { return e.opts.Deadline }
