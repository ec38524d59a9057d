package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/pagein/pagein/internal/httprange"
)

// promptness is how long a place may take to answer if there is another: long before readers give up.
const promptness = stallTimeout / 3

// First returns an object that can be read from several places, the preferred one first. A place that fails, or does not answer for ten seconds, is asked last for a while, which grows from
// 2 seconds to a minute while it goes on failing; so is one whose bytes are rejected. All objects have the same bytes; with a single one, it is returned.
func First(log *slog.Logger, objects ...Object) Object {
	if len(objects) == 1 {
		return objects[0]
	}
	f := &firstObject{log: log}
	for _, o := range objects {
		f.places = append(f.places, &place{Object: o, users: 1})
	}
	return f
}

type firstObject struct {
	log *slog.Logger

	mu     sync.Mutex
	places []*place // at least one; those of an object that First returned stay
}

type place struct {
	Object
	health httprange.Health

	key   string // see Places
	users int    // guarded by the object's mu
}

func (f *firstObject) preferred() (*place, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.places[0], len(f.places)
}

// Size implements [Object].
func (f *firstObject) Size() int64 {
	p, _ := f.preferred()
	return p.Size()
}

// String implements [Object].
func (f *firstObject) String() string {
	p, n := f.preferred()
	if n == 1 {
		return p.String()
	}
	return fmt.Sprintf("%s or %d other places", p.Object, n-1)
}

// order returns the places in the order in which to ask them.
func (f *firstObject) order() []*place {
	f.mu.Lock()
	defer f.mu.Unlock()
	var well, paused []*place
	for _, p := range f.places {
		if p.health.Paused() {
			paused = append(paused, p)
		} else {
			well = append(well, p)
		}
	}
	return append(well, paused...)
}

// Range implements [Object].
func (f *firstObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(f, off, n); err != nil {
		return nil, err
	}
	var failed httprange.SourcesError
	places := f.order()
	if len(places) == 1 { // there is nothing to prefer
		return places[0].Range(ctx, off, n)
	}
	for i, p := range places {
		r, release, err := p.open(ctx, off, n, i == len(places)-1)
		if err == nil {
			return &placeRange{ReadCloser: r, release: release, f: f, p: p, ctx: ctx, left: n}, nil
		}
		failed.Errs = append(failed.Errs, err)
		if ctx.Err() != nil {
			break
		}
		f.failed(p, err)
	}
	return nil, rangeError(f, off, n, &failed)
}

// open asks the place; if it is not the last, only so long.
func (p *place) open(ctx context.Context, off, n int64, last bool) (r io.ReadCloser, release func(), err error) {
	if last {
		r, err = p.Range(ctx, off, n)
		return r, func() {}, err
	}
	r, release, err = httprange.Promptly(ctx, promptness, func(ctx context.Context) (io.ReadCloser, error) { return p.Range(ctx, off, n) })
	if errors.Is(err, httprange.ErrStalled) {
		err = fmt.Errorf("%s: %w", p, err)
	}
	return r, release, err
}

func (f *firstObject) failed(p *place, err error) {
	if !p.health.Paused() {
		f.log.Warn("source is avoided for a while", "source", p.String(), "err", err)
	}
	p.health.Failed()
}

// placeRange is a range from one of the places.
type placeRange struct {
	io.ReadCloser
	release func() // what the request holds
	f       *firstObject
	p       *place
	ctx     context.Context
	left    int64
	done    bool // how it went is told
}

// Close implements io.Closer.
func (r *placeRange) Close() error {
	defer r.release()
	return r.ReadCloser.Close()
}

// Read implements io.Reader.
func (r *placeRange) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	r.left -= int64(n)
	switch {
	case r.done:
	case r.left == 0: // which comes before io.EOF, for which few readers wait
		r.done = true
		r.p.health.Worked()
	case err != nil && r.ctx.Err() == nil:
		r.done = true
		r.f.failed(r.p, err)
	}
	return n, err
}

// Reject has the other places asked first for a while.
func (r *placeRange) Reject() {
	Reject(r.ReadCloser)
	r.done = true
	r.f.log.Warn("source sent wrong bytes and is avoided for a while", "source", r.p.String())
	r.p.health.Failed()
}
