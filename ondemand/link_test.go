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

// newWired returns a blob of files of the given sizes that do not compress, behind a wire. It must be closed with its engine.
func newWired(t *testing.T, w *wire, o Options, sizes []int) (b *Blob, closeAll func()) {
	t.Helper()
	var out bytes.Buffer
	bw := blob.NewWriter(t.Context(), &out, blob.WriterOptions{})
	content := rand.NewChaCha8([32]byte{7})
	for _, size := range sizes {
		if _, err := bw.Append(io.LimitReader(content, int64(size)), int64(size)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := bw.Close()
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = e.Blob(m, []backend.Object{&wired{w, out.Bytes()}}); err != nil {
		t.Fatal(err)
	}
	b.Bind(nowhere{}, &memory{present: make([]bool, m.Frames())})
	return b, func() { e.Close(); b.Close() }
}

// TestASequentialReaderGetsTheWholeLink reads a file in order, as the kernel does it: 128 KiB at a time, asking also for what is there already.
func TestASequentialReaderGetsTheWholeLink(t *testing.T) {
	for _, rtt := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
		for _, step := range []int64{128 << 10, 1 << 20} {
			t.Run(fmt.Sprint(rtt, step), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &wire{rate: 125e6, rtt: rtt}
					b, done := newWired(t, w, Options{}, []int{96 << 20})
					defer done()
					start := time.Now()
					for off := int64(0); off < b.Size(); off += step {
						if err := b.Fill(t.Context(), off, step); err != nil {
							t.Fatal(err)
						}
					}
					part := float64(b.Size()) / time.Since(start).Seconds() / float64(w.rate)
					t.Logf("%.3f of the link", part)
					if part < 0.8 {
						t.Errorf("a sequential reader gets %.2f of a link of 1 Gbit/s and %v", part, rtt)
					}
				})
			})
		}
	}
}
