package ondemand

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shaky is an object whose every second answer ends after 0.5 MB.
type shaky struct {
	*wired
	asked atomic.Int64
}

func (o *shaky) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := o.wired.Range(ctx, off, n)
	if err != nil || o.asked.Add(1)%2 == 0 {
		return r, err
	}
	return io.NopCloser(io.LimitReader(r, 5e5)), nil
}

// TestABlobIsCompletedHoweverLongThatTakes has a link that needs many times a reader's patience for it, and breaks now and then.
func TestABlobIsCompletedHoweverLongThatTakes(t *testing.T) {
	big := convertRandom(t, 8<<20)
	synctest.Test(t, func(t *testing.T) {
		b, done := big.behind(t, &wire{rate: 20e3, rtt: 10 * time.Millisecond}, Options{})
		defer done()
		b.sources[0].Object = &shaky{wired: &wired{&wire{rate: 20e3}, big.data}}
		if err := complete(t.Context(), b); err != nil || !b.Complete() {
			t.Errorf("%d of %d bytes are there: %v", b.Present(), b.Size(), err)
		}
	})
}

// TestABlobThatCannotBeCompletedIsGivenUp has all but one of its frames arrive, and all but one of its bytes.
func TestABlobThatCannotBeCompletedIsGivenUp(t *testing.T) {
	for name, spoil := range map[string]func(int64, []byte) ([]byte, error){
		"refused": func(int64, []byte) ([]byte, error) { return nil, errors.New("refused") },
		"corrupt": func(_ int64, b []byte) ([]byte, error) { return bytes.Repeat([]byte{1}, len(b)), nil },
		"short":   func(_ int64, b []byte) ([]byte, error) { return b[:len(b)-1], io.ErrUnexpectedEOF },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Options{RequestBytes: 1, Backoff: time.Second})
				bad := f.m.Frame(f.m.Frames() / 2).SrcOff
				f.object.spoil = func(_, off int64, b []byte) ([]byte, error) {
					if off == bad {
						return spoil(off, b)
					}
					return b, nil
				}
				start := time.Now()
				if err := complete(t.Context(), f.Blob); err == nil {
					t.Error("it is complete")
				}
				if took := time.Since(start); took > 5*time.Minute {
					t.Errorf("given up after %v", took)
				}
			})
		})
	}
}
