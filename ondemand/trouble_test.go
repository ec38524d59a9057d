package ondemand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/internal/httprange"
)

func TestAProblemEndsWhenItsSourceIsWellAgain(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(b []byte) ([]byte, error)
		want  error // that is still known when another frame has come
	}{
		"outage":        {func([]byte) ([]byte, error) { return nil, errors.New("refused") }, nil},
		"corrupt bytes": {func(b []byte) ([]byte, error) { b[0] ^= 1; return b, nil }, blob.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Options{ReadAhead: -1})
				var well atomic.Bool
				f.object.spoil = func(_, _ int64, b []byte) ([]byte, error) {
					if well.Load() {
						return b, nil
					}
					return c.spoil(b)
				}
				if err := f.Fill(t.Context(), 0, 1); err == nil || f.Problem() == nil || !f.Problem().Final {
					t.Fatalf("error %v, problem %v", err, f.Problem())
				}
				synctest.Wait()
				well.Store(true)
				if err := f.Fill(t.Context(), f.Size()-1, 1); err != nil {
					t.Fatal(err)
				}
				p := f.Problem()
				if c.want == nil && p != nil || c.want != nil && (p == nil || !errors.Is(p.Err, c.want)) {
					t.Errorf("the problem is %+v, want %v", p, c.want)
				}
				if err := f.Fill(t.Context(), 0, 1); err != nil || f.Problem() != nil {
					t.Errorf("the frame: %v, problem %v", err, f.Problem())
				}
			})
		})
	}
}

// TestReadersWaitForNewCredentials has a source let nobody in for a while, or not know what is asked for.
func TestReadersWaitForNewCredentials(t *testing.T) {
	refused, missing := &httprange.StatusError{Code: 401}, &httprange.StatusError{Code: 404}
	for name, c := range map[string]struct {
		says       error
		lasts      time.Duration
		least, max time.Duration // that a reader waits
	}{
		"a moment":        {refused, 3 * time.Second, 3 * time.Second, 10 * time.Second},
		"forbidden":       {&httprange.StatusError{Code: 403}, 3 * time.Second, 3 * time.Second, 10 * time.Second},
		"one of several":  {&httprange.SourcesError{Errs: []error{missing, refused}}, 3 * time.Second, 3 * time.Second, 10 * time.Second},
		"for good":        {refused, time.Hour, 20 * time.Second, 30 * time.Second},
		"it is not there": {missing, time.Hour, 0, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Options{ReadAhead: -1, Deadline: 20 * time.Second})
				begin := time.Now()
				f.object.spoil = func(_, _ int64, b []byte) ([]byte, error) {
					if time.Since(begin) < c.lasts {
						return nil, fmt.Errorf("read: %w", c.says)
					}
					return b, nil
				}
				err := f.Fill(t.Context(), 0, 1)
				if took := time.Since(begin); (err == nil) != (c.lasts < time.Hour) || took < c.least || took > c.max {
					t.Errorf("after %s: %v", took, err)
				}
			})
		})
	}
}

// TestReadersThatWaitDoNotHideThoseThatGotErrors has one reader of a dead source give up, and then another wait.
func TestReadersThatWaitDoNotHideThoseThatGotErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{ReadAhead: -1, Deadline: time.Second})
		f.object.spoil = func(_, _ int64, _ []byte) ([]byte, error) { return nil, errors.New("refused") }
		if err := f.Fill(t.Context(), 0, 1); err == nil {
			t.Fatal("it was read")
		}
		f.SetDeadline(time.Hour)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = f.Fill(ctx, 0, 1) }()
		time.Sleep(10 * time.Second)
		if p := f.Problem(); p == nil || !p.Final {
			t.Errorf("the problem is %+v", p)
		}
		stop()
		f.Close()
	})
}

func TestWhatCannotBeStoredIsNotFetchedAgainAndAgain(t *testing.T) {
	for name, read := range map[string]func(*Blob, context.Context, int64, int64) error{"read": (*Blob).Fill, "prefetch": (*Blob).Prefetch} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Options{ReadAhead: -1, Deadline: -1})
				full := errors.New("no space left")
				f.memory.fail = full
				if err := read(f.Blob, t.Context(), 0, 1); !errors.Is(err, full) {
					t.Errorf("error is %v", err)
				}
				if n := f.object.requests.Load(); n != 1 {
					t.Errorf("it was asked for %d times", n)
				}
				if p := f.Problem(); p == nil || !errors.Is(p.Err, full) {
					t.Errorf("the problem is %+v", p)
				}
				f.memory.with(func() { f.memory.fail = nil })
				if err := read(f.Blob, t.Context(), 0, 1); err != nil || f.Problem() != nil {
					t.Errorf("with space again: %v, problem %v", err, f.Problem())
				}
			})
		})
	}
}

// TestAClosedTargetIsNoTrouble has the target closed while a frame is on its way to it, as a kernel does at an umount.
func TestAClosedTargetIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{ReadAhead: -1})
		f.memory.fail = fmt.Errorf("closed: %w", ErrUnbound)
		if err := f.Fill(t.Context(), 0, 1); !errors.Is(err, ErrUnbound) {
			t.Errorf("error is %v", err)
		}
		if n := f.object.requests.Load(); n != 1 {
			t.Errorf("it was asked for %d times", n)
		}
		if p := f.Problem(); p != nil {
			t.Errorf("the problem is %+v", p)
		}
	})
}

// TestNothingIsFetchedForAClosedTarget has a target closed while a prefetch has more requests to make than may be made at a time.
func TestNothingIsFetchedForAClosedTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{ReadAhead: -1, Requests: 2, HostRequests: 2})
		f.object.delay = time.Second
		fetched := make(chan error, 1)
		go func() { fetched <- f.Prefetch(t.Context(), 0, f.Size()) }()
		synctest.Wait()
		f.memory.with(func() { f.memory.fail = fmt.Errorf("closed: %w", ErrUnbound) })
		f.Unbind(f.memory)
		if err := <-fetched; !errors.Is(err, ErrUnbound) {
			t.Errorf("the prefetch ended with %v", err)
		}
		time.Sleep(time.Minute)
		if n := f.object.requests.Load(); n == 0 || n > 2 {
			t.Errorf("%d requests were made, want those that were under way", n)
		}
	})
}

// TestReadersOfTheNextTargetGetWhatWasOnItsWayToTheOneBefore has a target closed while frames are on their way to it, and readers of its successor wait for them.
func TestReadersOfTheNextTargetGetWhatWasOnItsWayToTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{ReadAhead: -1})
		f.object.delay = time.Second
		go func() { _ = f.Prefetch(t.Context(), 0, f.Size()) }()
		synctest.Wait()
		f.memory.with(func() { f.memory.fail = fmt.Errorf("closed: %w", ErrUnbound) })
		f.Unbind(f.memory)
		if err := f.Fill(t.Context(), 0, 1); !errors.Is(err, ErrUnbound) {
			t.Errorf("a reader of what is closed got %v", err)
		}
		before := f.object.requests.Load()
		next := newMemory(f.m)
		f.Bind(next, next)
		f.Unbind(f.memory) // told late
		if err := f.Fill(t.Context(), 0, 1); err != nil {
			t.Error(err)
		}
		if n := f.object.requests.Load() - before; n != 0 {
			t.Errorf("%d more requests were made for what was on its way", n)
		}
		if next.Count() == 0 || f.engine.stats.failed.Load() != 1 {
			t.Errorf("%d frames are there, %d reads failed", next.Count(), f.engine.stats.failed.Load())
		}
	})
}

// TestOneReaderBeingServedDoesNotLeaveTheOther has two readers wait for a request that breaks off between their frames.
func TestOneReaderBeingServedDoesNotLeaveTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{ReadAhead: -1})
		f.object.delay = 10 * time.Millisecond
		third, last := f.m.Frame(3), f.m.Frame(9)
		f.object.spoil = func(request, _ int64, b []byte) ([]byte, error) {
			if request == 1 {
				return b[:third.SrcOff+int64(third.SrcLen)], nil
			}
			return b, nil
		}
		all := make(chan error, 1)
		go func() { all <- f.Fill(t.Context(), 0, last.Off+1) }()
		time.Sleep(5 * time.Millisecond)
		if err := f.Fill(t.Context(), f.m.Frame(2).Off, 1); err != nil {
			t.Error(err)
		}
		if err := <-all; err != nil {
			t.Error(err)
		}
	})
}

// TestAFullDiskDoesNotFillTheLog has a prefetch that is tried again and again, and readers, meet a full disk.
func TestAFullDiskDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		var log bytes.Buffer
		f.engine.log = slog.New(slog.NewTextHandler(&log, nil))
		f.memory.fail = errors.New("no space left")
		for range 10 {
			_ = f.Prefetch(t.Context(), 0, f.Size())
			_ = f.Fill(t.Context(), f.Size()/2, 4096)
			synctest.Wait()
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "no space left") {
			t.Errorf("%d lines are logged:\n%s", n, log.String())
		}
	})
}

// TestWhoAsksAfterAnOutageDoesNotWaitForItsRequests has a server not answer until it is well, and never what it was asked before.
func TestWhoAsksAfterAnOutageDoesNotWaitForItsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{Deadline: time.Second})
		s.delay = func(int) time.Duration { return time.Hour }
		if err := f.Fill(t.Context(), 0, 1); err == nil || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("error is %v", err)
		}
		s.delay = func(int) time.Duration { return 10 * time.Millisecond }
		if err := f.Fill(t.Context(), 0, 1); err != nil {
			t.Error(err)
		}
		if p := f.Problem(); p != nil {
			t.Errorf("there is still a problem: %v", p.Err)
		}
	})
}

// TestAServerThatIsOnlySlowIsNotInterrupted has readers wait for the end of a long answer until their deadline and beyond.
func TestAServerThatIsOnlySlowIsNotInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{Deadline: 2 * time.Second, ReadAhead: -1})
		s.rate = 200 << 10 // half a second for each frame
		begin := f.Size() - 3<<20
		for f.Fill(t.Context(), begin, 3<<20) != nil {
		}
		if n := s.requests(); n != 1 {
			t.Errorf("%d requests were made, want 1", n)
		}
	})
}
