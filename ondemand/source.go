package ondemand

import (
	"context"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/pagein/pagein/ondemand/backend"
)

// source is a source object, and what is known of where it is read from.
type source struct {
	backend.Object
	site  string // kind and host of its backend
	lane  *lane
	stats *sourceStats // of its kind of backend
}

// lane is what all objects of one host share.
type lane struct {
	slots   *slots
	limit   *rate.Limiter // nil without a limit
	latency latencies     // until an answer begins

	mu      sync.Mutex
	credits float64 // hedged requests that may be made
}

func (e *Engine) source(o backend.Object) *source {
	kind, host := backend.Site(o)
	e.mu.Lock()
	defer e.mu.Unlock()
	key := kind + " " + host
	l := e.lanes[key]
	if l == nil {
		l = &lane{slots: newSlots(e.opts.HostRequests)}
		if bytes := e.opts.HostBandwidth; bytes > 0 && host != "" {
			l.limit = rate.NewLimiter(rate.Limit(bytes), int(max(bytes/10, 64<<10)))
		}
		e.lanes[key] = l
	}
	s := e.kinds[kind]
	if s == nil {
		s = newSourceStats()
		e.kinds[kind] = s
	}
	return &source{Object: o, site: strings.TrimSpace(key), lane: l, stats: s}
}

// pace waits until n more bytes may be read.
func (l *lane) pace(ctx context.Context, n int) error {
	if l.limit == nil {
		return nil
	}
	for n > 0 {
		step := min(n, l.limit.Burst())
		if err := l.limit.WaitN(ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return nil
}
