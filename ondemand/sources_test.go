package ondemand

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/internal/httprange"
	"github.com/pagein/pagein/ondemand/backend"
)

func TestASourceThatLiesIsReplacedByAnother(t *testing.T) {
	f := newFixture(t, Options{Backoff: time.Millisecond})
	lying := &object{data: f.object.data, spoil: func(_, _ int64, b []byte) ([]byte, error) {
		b[len(b)/2] ^= 1
		return b, nil
	}}
	f.sources[0].Object = backend.First(slog.New(slog.DiscardHandler), lying, f.object)
	if err := f.Fill(context.Background(), 0, f.Size()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.memory.data, f.want) {
		t.Error("what was written is not the blob")
	}
	if lying.requests.Load() == 0 {
		t.Error("the preferred source was not asked")
	}
}

func TestAServerIsLeftAloneForAsLongAsItWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		f.object.spoil = func(request, _ int64, b []byte) ([]byte, error) {
			if request == 1 {
				return nil, &httprange.StatusError{Code: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}
			}
			return b, nil
		}
		start := time.Now()
		if err := f.Fill(context.Background(), 0, 4096); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("asked again after %v", took)
		}
	})
}
