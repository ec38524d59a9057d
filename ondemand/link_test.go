package ondemand

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// wire is a link on a made-up clock: a rate that all requests share, and a round trip before each answer.
type wire struct {
	rate int // bytes per second
	rtt  time.Duration

	mu   sync.Mutex
	free time.Time // when the last byte queued so far will have arrived
	sent int64     // bytes
}

// wired is an object at the other end of a wire.
type wired struct {
	*wire
	data []byte
}

func (o *wired) Size() int64    { return int64(len(o.data)) }
func (o *wired) String() string { return "object behind a wire" }

func (o *wired) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	select {
	case <-time.After(o.rtt):
		return wiredBody{bytes.NewReader(o.data[off : off+n]), o.wire}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

type wiredBody struct {
	io.Reader
	*wire
}

func (b wiredBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p[:min(len(p), 16<<10)])
	b.mu.Lock()
	if now := time.Now(); b.free.Before(now) {
		b.free = now
	}
	b.free = b.free.Add(time.Duration(n) * time.Second / time.Duration(b.rate))
	b.sent += int64(n)
	at := b.free
	b.mu.Unlock()
	time.Sleep(time.Until(at))
	return n, err
}

func (wiredBody) Close() error { return nil }

// nowhere is a target that keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// converted is a blob's map and its object.
type converted struct {
	m    *blob.Map
	data []byte
}

// convertRandom makes a blob of files of the given sizes that do not compress.
func convertRandom(t *testing.T, sizes ...int) converted {
	t.Helper()
	var out bytes.Buffer
	w := blob.NewWriter(t.Context(), &out, blob.WriterOptions{})
	content := rand.NewChaCha8([32]byte{7})
	for _, size := range sizes {
		if _, err := w.Append(io.LimitReader(content, int64(size)), int64(size)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return converted{m, out.Bytes()}
}

// behind returns the blob behind a wire, and what closes it and its engine.
func (c converted) behind(t *testing.T, w *wire, o Options) (b *Blob, closeAll func()) {
	t.Helper()
	e, err := New(slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = e.Blob(c.m, []backend.Object{&wired{w, c.data}}); err != nil {
		t.Fatal(err)
	}
	b.Bind(nowhere{}, &memory{present: make([]bool, c.m.Frames())})
	return b, func() { e.Close(); b.Close() }
}

// TestASequentialReaderGetsTheWholeLink reads a file in order, as the kernel does it: 128 KiB at a time, asking also for what is there already.
func TestASequentialReaderGetsTheWholeLink(t *testing.T) {
	big := convertRandom(t, 256<<20)
	for rtt, least := range map[time.Duration]float64{time.Millisecond: 0.98, 10 * time.Millisecond: 0.95, 20 * time.Millisecond: 0.86} {
		t.Run(fmt.Sprint(rtt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{rate: 125e6, rtt: rtt}
				b, done := big.behind(t, w, Options{})
				defer done()
				const step = 128 << 10
				start := time.Now()
				for off := int64(0); off < b.Size(); off += step {
					if err := b.Fill(t.Context(), off, step); err != nil {
						t.Fatal(err)
					}
				}
				part := float64(b.Size()) / time.Since(start).Seconds() / float64(w.rate)
				t.Logf("%.3f of the link", part)
				if part < least {
					t.Errorf("a sequential reader gets %.2f of a link of 1 Gbit/s and %v, want %.2f", part, rtt, least)
				}
			})
		})
	}
}
