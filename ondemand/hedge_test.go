package ondemand

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// countedObject counts requests that are under way and bodies that are not closed.
type countedObject struct {
	*slowObject
	held atomic.Int32
}

func (o *countedObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	o.held.Add(1)
	r, err := o.slowObject.Range(ctx, off, n)
	if err != nil {
		o.held.Add(-1)
		return nil, err
	}
	return countedBody{r, &o.held}, nil
}

type countedBody struct {
	io.ReadCloser
	held *atomic.Int32
}

func (b countedBody) Close() error {
	b.held.Add(-1)
	return b.ReadCloser.Close()
}

// warm reads frames one by one until the engine knows how long answers take.
func warm(t *testing.T, f *fixture) {
	t.Helper()
	for i := range 100 {
		if err := f.Fill(t.Context(), f.m.Frame(i%f.m.Frames()).Off, 1); err != nil {
			t.Fatal(err)
		}
		f.memory.Clear(i % f.m.Frames())
	}
}

func TestTheSlowerOfTwoAnswersIsLetGo(t *testing.T) {
	for name, late := range map[string]time.Duration{"by far": 10 * time.Second, "a little": 30 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newSlowFixture(t, Options{ReadAhead: -1, RequestBytes: 1})
				o := &countedObject{slowObject: s}
				f.sources[0].Object = o
				warm(t, f)
				before := s.requests()
				s.delay = func(k int) time.Duration {
					if k == before+1 {
						return late
					}
					return 10 * time.Millisecond
				}
				if err := f.Fill(t.Context(), 0, 1); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if s.requests() != before+2 {
					t.Errorf("%d requests were made", s.requests()-before)
				}
				if n := o.held.Load(); n != 0 {
					t.Errorf("%d requests are still held", n)
				}
			})
		})
	}
}

func TestAServerInTroubleIsNotAskedTwiceAsOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1, RequestBytes: 1, Deadline: time.Minute})
		warm(t, f)
		before := f.engine.Stats()
		s.delay = func(int) time.Duration { return time.Second }
		s.fail = func() error { return errors.New("overloaded") }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 40 {
			go func() { _ = f.Fill(ctx, f.m.Frame(i).Off, 1) }()
		}
		time.Sleep(time.Minute)
		after := f.engine.Stats()
		requests, hedges := after.Requests-before.Requests, after.Hedges-before.Hedges
		if requests < 200 || float64(hedges) > hedgeShare*float64(requests)+maxCredits {
			t.Errorf("%d of %d requests were second ones", hedges, requests)
		}
	})
}

// TestSecondRequestsKeepToTheLimits has answers be slow when the host, or the engine, may be asked for nothing more.
func TestSecondRequestsKeepToTheLimits(t *testing.T) {
	for name, limit := range map[string]func(*fixture) *slots{
		"host":   func(f *fixture) *slots { return f.sources[0].lane.slots },
		"engine": func(f *fixture) *slots { return f.engine.slots },
		"none":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newSlowFixture(t, Options{ReadAhead: -1, RequestBytes: 1})
				warm(t, f)
				synctest.Wait()
				before := s.requests()
				s.delay = func(int) time.Duration { return time.Second }
				free := func() int { return f.engine.slots.free + f.sources[0].lane.slots.free }
				all := free()
				var taken []*ticket
				if limit != nil {
					for range limit(f).free - 1 { // one is left for the first request
						taken = append(taken, limit(f).spare())
					}
				}
				if err := f.Fill(t.Context(), 0, 1); err != nil {
					t.Fatal(err)
				}
				want := 1
				if limit == nil {
					want = 2
				}
				if n := s.requests() - before; n != want {
					t.Errorf("%d requests were made, want %d", n, want)
				}
				for _, tk := range taken {
					limit(f).release(tk)
				}
				synctest.Wait()
				if n := free(); n != all {
					t.Errorf("%d of %d slots came back", n, all)
				}
			})
		})
	}
}
