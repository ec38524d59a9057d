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
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// Options bound what an engine does at a time. Zero values stand for the defaults.
type Options struct {
	Requests     int64         // concurrent backend requests, default 32
	RequestBytes int           // most source bytes asked for in one request, default 4 MiB
	ReadAhead    int64         // most blob bytes fetched beyond a miss, default 8 MiB; negative for none
	Attempts     int           // tries for each frame before its readers get an error, default 8; fewer for corrupt bytes
	Backoff      time.Duration // wait before the second try, doubled for each further one up to 5 s, default 200 ms
}

const (
	// maxBackoff bounds the wait between tries. With the defaults a backend may be away for a quarter of a minute before readers notice.
	maxBackoff = 5 * time.Second
	// corruptAttempts is how often a frame whose bytes were wrong is tried: it may have been the line, but hardly thrice.
	corruptAttempts = 3
)

func (o Options) withDefaults() Options {
	def := Options{Requests: 32, RequestBytes: 4 << 20, ReadAhead: 8 << 20, Attempts: 8, Backoff: 200 * time.Millisecond}
	if o.Requests > 0 {
		def.Requests = o.Requests
	}
	if o.RequestBytes > 0 {
		def.RequestBytes = o.RequestBytes
	}
	if o.ReadAhead != 0 {
		def.ReadAhead = max(o.ReadAhead, 0)
	}
	if o.Attempts > 0 {
		def.Attempts = o.Attempts
	}
	if o.Backoff > 0 {
		def.Backoff = o.Backoff
	}
	return def
}

// ErrClosed is what readers get whose bytes were still missing when their blob, or the engine, was closed.
var ErrClosed = errors.New("closed")

// Engine fetches frames for any number of blobs, within common bounds. Its methods may be called concurrently.
type Engine struct {
	opts  Options
	log   *slog.Logger
	slots *semaphore.Weighted
	bufs  buffers
	dec   *blob.Decoder
	stats stats

	ctx    context.Context // ends when Close is called
	cancel context.CancelCauseFunc
}

// New returns an engine that logs to log.
func New(log *slog.Logger, o Options) (*Engine, error) {
	o = o.withDefaults()
	dec, err := blob.NewDecoder(int(o.Requests))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Engine{opts: o, log: log, slots: semaphore.NewWeighted(o.Requests), dec: dec, stats: newStats(), ctx: ctx, cancel: cancel}, nil
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
	b := &Blob{engine: e, m: m, objects: objects, inflight: make(map[int]*fetching)}
	b.ctx, b.cancel = context.WithCancelCause(e.ctx)
	return b, nil
}

// Close ends all fetches; readers that wait get [ErrClosed]. Each blob's Close then waits for what is left of them.
func (e *Engine) Close() { e.cancel(ErrClosed) }
