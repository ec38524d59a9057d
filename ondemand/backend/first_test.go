package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/backend/backendtest"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// moody is an object that does what a test wants.
type moody struct {
	name  string
	asked atomic.Int32
	hangs bool  // in Range
	fail  error // of Range
	short error // of the reader, after half of the range
}

func (m *moody) Size() int64    { return int64(len(content)) }
func (m *moody) String() string { return "the object of " + m.name }
func (m *moody) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	m.asked.Add(1)
	if m.hangs {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if m.fail != nil {
		return nil, m.fail
	}
	if m.short != nil {
		return io.NopCloser(io.MultiReader(bytes.NewReader(content[off:off+n/2]), failing{m.short})), nil
	}
	return io.NopCloser(bytes.NewReader(content[off : off+n])), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestPreferredPlaceServesWhileItIsWell(t *testing.T) {
	a, b := &moody{name: "a"}, &moody{name: "b"}
	o := backend.First(quiet(), a, b)
	for range 3 {
		if _, err := backendtest.Read(context.Background(), o, 1, 100); err != nil {
			t.Fatal(err)
		}
	}
	if a.asked.Load() != 3 || b.asked.Load() != 0 {
		t.Errorf("a was asked %d times, b %d times", a.asked.Load(), b.asked.Load())
	}
}

func TestPlaceThatDoesNotAnswerLeavesTimeForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &moody{name: "a", hangs: true}, &moody{name: "b"}
		o := backend.First(quiet(), a, b)
		start := time.Now()
		for range 2 {
			if _, err := backendtest.Read(t.Context(), o, 1, 100); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("readers waited %v", took)
		}
		if a.asked.Load() != 1 {
			t.Errorf("the place was asked %d times", a.asked.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := backendtest.Read(ctx, backend.First(quiet(), a, b), 1, 100); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who asks no more gets %v", err)
		}
	})
}

func TestFailedPlaceCostsOneRequestAndIsTriedAgainWhenNoOtherIsWell(t *testing.T) {
	broken := errors.New("broken")
	for name, set := range map[string]func(*moody, error){
		"at once":    func(m *moody, err error) { m.fail = err },
		"on the way": func(m *moody, err error) { m.short = err },
	} {
		a, b := &moody{name: "a"}, &moody{name: "b"}
		o := backend.First(quiet(), a, b)
		set(a, broken)
		for i := range 3 {
			got, err := backendtest.Read(context.Background(), o, 1, 100)
			if (err != nil) != (i == 0 && name == "on the way") || err == nil && !bytes.Equal(got, content[1:101]) {
				t.Errorf("%s: read %d: %v", name, i, err)
			}
		}
		if a.asked.Load() != 1 {
			t.Errorf("%s: the broken place was asked %d times", name, a.asked.Load())
		}
		set(a, nil)
		b.fail = broken
		if _, err := backendtest.Read(context.Background(), o, 1, 100); err != nil {
			t.Errorf("%s: the place that is well again is not used: %v", name, err)
		}
	}
}

func TestRejectedPlaceIsAskedLast(t *testing.T) {
	a, b := &moody{name: "a"}, &moody{name: "b"}
	o := backend.First(quiet(), a, b)
	r, err := o.Range(context.Background(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	backend.Reject(r)
	r.Close()
	if _, err := backendtest.Read(context.Background(), o, 1, 100); err != nil || b.asked.Load() != 1 {
		t.Errorf("b was asked %d times, %v", b.asked.Load(), err)
	}
}

func TestAllPlacesMustFailForGoodForThatToBeFinal(t *testing.T) {
	missing := io.ErrUnexpectedEOF
	o := backend.First(quiet(), &moody{name: "a", fail: backend.ErrForbidden}, &moody{name: "b", fail: missing})
	if _, err := backendtest.Read(context.Background(), o, 1, 100); err == nil || backend.IsPermanent(err) {
		t.Errorf("error is %v", err)
	}
	o = backend.First(quiet(), &moody{name: "a", fail: backend.ErrForbidden}, &moody{name: "b", fail: backend.ErrForbidden})
	if _, err := backendtest.Read(context.Background(), o, 1, 100); err == nil || !backend.IsPermanent(err) {
		t.Errorf("error is %v", err)
	}
}
