package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// arrivals notes when bytes arrive, in virtual time.
type arrivals struct {
	start time.Time
	data  bytes.Buffer
	at    []time.Duration // of every write
}

func (a *arrivals) Write(p []byte) (int, error) {
	a.at = append(a.at, time.Since(a.start))
	return a.data.Write(p)
}

func (a *arrivals) last() time.Duration { return a.at[len(a.at)-1] }

// after returns when the first n bytes had arrived, if all writes but the last carry a chunk.
func (a *arrivals) after(n int) time.Duration { return a.at[(n-1)/chunk] }

func pattern(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	return data
}

func transfer(t *testing.T, w *wire, rtt time.Duration, data []byte) *arrivals {
	t.Helper()
	got := &arrivals{start: time.Now()}
	p := pipe{wire: w, rtt: rtt, count: new(atomic.Int64), abort: func() {}}
	if err := p.run(t.Context(), got, bytes.NewReader(data)); err != nil {
		t.Fatalf("run: %v", err)
	}
	if !bytes.Equal(got.data.Bytes(), data) || p.count.Load() != int64(len(data)) {
		t.Fatalf("%d bytes arrived, %d counted, of %d: or other bytes than were sent", got.data.Len(), p.count.Load(), len(data))
	}
	return got
}

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %v, want %v to %v", what, got, low, high)
	}
}

func TestTransferTakesSizeOverRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := transfer(t, &wire{rate: 1e6}, 0, pattern(3e6))
		between(t, "3 MB at 1 MB/s", got.last(), 2999*time.Millisecond, 3001*time.Millisecond)
	})
}

func TestFirstByteTakesHalfARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := transfer(t, &wire{rate: 1e9}, 10*time.Millisecond, pattern(1))
		between(t, "one byte", got.last(), 5*time.Millisecond, 5001*time.Microsecond)
	})
}

func TestConnectionsShareTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &wire{rate: 1e6}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				got := transfer(t, shared, 0, pattern(1e6))
				between(t, "1 MB at half of 1 MB/s", got.last(), 1950*time.Millisecond, 2001*time.Millisecond)
			})
		}
		wg.Wait()
	})
}

func TestWindowDoublesEachRoundTrip(t *testing.T) {
	const rtt = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		got := transfer(t, &wire{rate: 1e12}, rtt, pattern(15*initialWindow))
		for flight, sent := range []int{1, 3, 7, 15} {
			want := rtt/2 + time.Duration(flight)*rtt
			between(t, "end of a flight", got.after(sent*initialWindow), want, want+time.Millisecond)
		}
	})
}

func TestLongTransferFillsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // 200 Mbit/s, 10 ms: slow start costs less than 5 round trips
		got := transfer(t, &wire{rate: 25e6}, 10*time.Millisecond, pattern(50e6))
		between(t, "50 MB at 25 MB/s", got.last(), 2005*time.Millisecond, 2055*time.Millisecond)
	})
}

func TestFailedDeliveryEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, feed := io.Pipe()
		defer feed.Close()
		go feed.Write([]byte("x")) //nolint:errcheck // what happens to the write is not what is tested
		gone := errors.New("gone")
		p := pipe{wire: &wire{rate: 1e6}, count: new(atomic.Int64), abort: func() { src.CloseWithError(io.ErrClosedPipe) }}
		if err := p.run(t.Context(), failing{gone}, src); !errors.Is(err, gone) {
			t.Errorf("run: %v, want %v", err, gone)
		}
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestPipeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := pipe{wire: &wire{rate: 1000}, count: new(atomic.Int64), abort: func() {}}
		if err := p.run(ctx, io.Discard, bytes.NewReader(pattern(1e6))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("run: %v, want %v", err, context.DeadlineExceeded)
		}
	})
}
