package ondemand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

// TestSlotsGoToDemandFirst queues claims of all classes and frees the slots one by one.
func TestSlotsGoToDemandFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		s.idle = 1
		held := newTicket(demand)
		if err := s.acquire(t.Context(), held); err != nil {
			t.Fatal(err)
		}
		var order []string
		var wg sync.WaitGroup
		for _, c := range []class{prefetch, around, ahead, demand, prefetch, demand} {
			wg.Go(func() {
				tk := newTicket(c)
				if err := s.acquire(t.Context(), tk); err != nil {
					t.Error(err)
				}
				order = append(order, c.String())
				s.release(tk)
			})
			synctest.Wait()
		}
		s.release(held)
		wg.Wait()
		if want := []string{"demand", "demand", "ahead", "around", "prefetch", "prefetch"}; !slices.Equal(order, want) {
			t.Errorf("got %v, want %v", order, want)
		}
	})
}

func TestIdleClassesHaveAShareOfTheSlotsOnly(t *testing.T) {
	s := newSlots(8)
	ctx, cancel := context.WithCancel(t.Context())
	var held []*ticket
	for range 2 {
		tk := newTicket(prefetch)
		if err := s.acquire(ctx, tk); err != nil {
			t.Fatal(err)
		}
		held = append(held, tk)
	}
	cancel()
	if err := s.acquire(ctx, newTicket(prefetch)); !errors.Is(err, context.Canceled) {
		t.Fatalf("a third of eight slots is given to a prefetch: %v", err)
	}
	s.promote(held[0]) // a reader wants what it fetches: it is idle no more
	tk := newTicket(around)
	if err := s.acquire(t.Context(), tk); err != nil {
		t.Fatal(err)
	}
	if s.demote(held[0]) {
		t.Error("a fourth idle slot was given back to idleness")
	}
	for _, tk := range append(held, tk) {
		s.release(tk)
	}
	if s.free != 8 || s.idle != 2 {
		t.Errorf("after all is released: %d free, %d idle", s.free, s.idle)
	}
}

// slowBody yields bytes at a rate.
type slowBody struct {
	io.Reader
	rate int // bytes per second
}

func (b slowBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p[:min(len(p), 16<<10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(b.rate))
	return n, err
}

func (slowBody) Close() error { return nil }

// slowObject answers after a round trip and notes when ranges were asked for.
type slowObject struct {
	object
	rate  int
	delay func(request int) time.Duration
	fail  func() error

	mu    sync.Mutex
	asked []string
}

func (o *slowObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	o.mu.Lock()
	o.asked = append(o.asked, fmt.Sprintf("%d+%d", off, n))
	k := len(o.asked)
	o.mu.Unlock()
	select {
	case <-time.After(o.delay(k)):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if o.fail != nil {
		if err := o.fail(); err != nil {
			return nil, err
		}
	}
	return slowBody{bytes.NewReader(o.data[off : off+n]), o.rate}, nil
}

func (o *slowObject) requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

// newSlowFixture is a fixture whose object is 10 ms away and brings 10 MB/s on each connection.
func newSlowFixture(t *testing.T, o Options) (*fixture, *slowObject) {
	f := newFixture(t, o)
	s := &slowObject{object: object{data: f.object.data}, rate: 10e6, delay: func(int) time.Duration { return 10 * time.Millisecond }}
	f.sources[0].Object = s
	return f, s
}

func TestAPrefetchGivesWayToReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1, Requests: 4})
		prefetched := make(chan error, 1)
		go func() { prefetched <- f.Prefetch(t.Context(), 0, f.Size()) }()
		time.Sleep(15 * time.Millisecond)
		if s.requests() != 1 {
			t.Errorf("a prefetch has %d of 4 slots", s.requests())
		}
		start := time.Now()
		if err := f.Fill(t.Context(), f.Size()-4096, 4096); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 60*time.Millisecond {
			t.Errorf("a reader waited %v beside a prefetch", took)
		}
		if err := <-prefetched; err != nil {
			t.Error(err)
		}
		if !f.Complete() || !bytes.Equal(f.memory.data, f.want) {
			t.Error("the prefetch has not brought all")
		}
		if got := f.engine.Stats(); got.Prefetch == 0 || got.Demand == 0 || got.Demand+got.Prefetch != s.Size() {
			t.Errorf("counted %d bytes of demand and %d of prefetch, of %d", got.Demand, got.Prefetch, s.Size())
		}
	})
}

func TestAPrefetchStopsReadingWhileAReaderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1})
		s.delay = func(k int) time.Duration { // the reader's request is a slow one
			if k > 1 {
				return 1500 * time.Millisecond
			}
			return time.Millisecond
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- f.Prefetch(ctx, 0, 512<<10) }()
		time.Sleep(2 * time.Millisecond)
		go func() { _ = f.Fill(ctx, f.Size()-4096, 4096) }()
		time.Sleep(200 * time.Millisecond)
		before := f.memory.Count()
		time.Sleep(time.Second)
		if after := f.memory.Count(); after != before {
			t.Errorf("%d frames were prefetched while a reader waited", after-before)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestAStreamGoesOnWhileAReaderWaits streams what takes several steps, while a reader waits for something else, and counts the time in which nothing is asked for.
func TestAStreamGoesOnWhileAReaderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1})
		s.delay = func(k int) time.Duration { // the reader's request is a slow one
			if k == 2 {
				return 10 * time.Second
			}
			return time.Millisecond
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		done := make(chan error, 1)
		go func() { done <- f.Stream(ctx, 0, f.Size()/2) }()
		time.Sleep(2 * time.Millisecond)
		waits := make(chan error, 1)
		go func() { waits <- f.Fill(ctx, f.Size()-4096, 4096) }()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a stream took %v beside a reader", took)
		}
		if err := <-waits; err != nil {
			t.Error(err)
		}
	})
}

func TestAReaderOvertakesThePrefetchOfItsFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1, Requests: 2, RequestBytes: 1 << 20})
		s.rate = 1e6
		done := make(chan error, 1)
		go func() { done <- f.Prefetch(t.Context(), 0, f.Size()) }()
		time.Sleep(20 * time.Millisecond)
		start := time.Now()
		if err := f.Fill(t.Context(), f.Size()/2, 4096); err != nil { // in a job that waits for the only idle slot
			t.Fatal(err)
		}
		if took := time.Since(start); took > 300*time.Millisecond {
			t.Errorf("the reader waited %v", took)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		for off, n := range f.memory.writes {
			if n != 1 {
				t.Errorf("frame at %d was written %d times", off, n)
			}
		}
	})
}

// TestManyMissesInARegionStreamIt reads at one place, and at another of which there were many misses nearby.
func TestManyMissesInARegionStreamIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newSlowFixture(t, Options{})
		read := func(off int64) int64 {
			if err := f.Fill(t.Context(), off, 4096); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			return f.Present()
		}
		around := f.engine.opts.ReadAround
		if n := read(f.Size() / 2); n < around || n > around+around/2 {
			t.Errorf("around the first miss %d bytes were fetched, want about %d", n, around)
		}
		f.mu.Lock()
		f.ahead.misses[0] += 4 * patience
		f.mu.Unlock()
		if n := read(0); n < f.Size()*enough/8 || n == f.Size() {
			t.Errorf("after many misses %d of %d bytes are there, want most", n, f.Size())
		}
	})
}

func TestNothingIsGuessedAroundExceptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{})
		f.Hesitate(3)
		for k := range int64(4) { // from the end, so that none continues another
			if err := f.Fill(t.Context(), f.Size()-(k+1)*f.Size()/8, 4096); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if guessed := f.engine.Stats().Around > 0 || s.requests() > int(k)+1; guessed && k < 3 {
				t.Errorf("something is guessed around exception %d", k)
			}
		}
		time.Sleep(time.Second)
		if f.engine.Stats().Around == 0 {
			t.Error("nothing is guessed around what is no exception")
		}
	})
}

// TestTwoExceptionsSideBySideAreNoStream reads frame after frame where exceptions are expected.
func TestTwoExceptionsSideBySideAreNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newSlowFixture(t, Options{})
		f.Hesitate(10)
		first := f.m.Frames() / 2
		for k := range 3 {
			if err := f.Fill(t.Context(), f.m.Frame(first+k).Off, 4096); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if guessed := f.memory.Count() > k+1; guessed != (k == 2) {
				t.Errorf("after %d neighbours in order, %d frames are there", k+1, f.memory.Count())
			}
		}
	})
}

func TestNothingIsGuessedWhereTheBackendIsNear(t *testing.T) {
	f := newFixture(t, Options{})
	f.sources[0].lane.latency.add(10 * time.Microsecond)
	if err := f.Fill(t.Context(), f.Size()/2, 4096); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if n := f.memory.Count(); n != 1 {
		t.Errorf("%d frames were fetched for a miss in one", n)
	}
}

func TestASequentialReaderIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{})
		s.rate = 100e6
		s.delay = func(int) time.Duration { return 50 * time.Millisecond }
		start := time.Now()
		for off := int64(0); off < f.Size(); off += 128 << 10 {
			if err := f.Fill(t.Context(), off, 128<<10); err != nil {
				t.Fatal(err)
			}
		}
		// The link needs a tenth of a second for the bytes; each stall would cost another 50 ms.
		if took, stalls := time.Since(start), s.requests(); took > 300*time.Millisecond {
			t.Errorf("reading in order took %v with %d requests", took, stalls)
		}
	})
}

func TestSlowAnswersAreAskedForTwiceWithinABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1, RequestBytes: 1})
		s.delay = func(k int) time.Duration {
			if k > 100 && k%25 == 0 {
				return 10 * time.Second
			}
			return 10 * time.Millisecond
		}
		slow := 0
		frames := f.Map().Frames()
		for round := range 8 {
			for i := range frames {
				start := time.Now()
				if err := f.Fill(t.Context(), f.Map().Frame(i).Off, 1); err != nil {
					t.Fatal(round, err)
				}
				if time.Since(start) > 5*time.Second {
					slow++
				}
				f.memory.Clear(i)
			}
		}
		got := f.engine.Stats()
		t.Logf("%d requests, %d of them second ones, %d readers waited long", got.Requests, got.Hedges, slow)
		if got.Hedges == 0 || float64(got.Hedges) > 0.05*float64(got.Requests)+maxCredits {
			t.Errorf("%d of %d requests were second ones", got.Hedges, got.Requests)
		}
		if all := int(got.Requests) / 25; slow > all/3 {
			t.Errorf("%d of about %d slow answers were waited for", slow, all)
		}
	})
}

func TestAHostIsNotAskedForMoreThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1, HostRequests: 2, RequestBytes: 1})
		const bandwidth = 1 << 20
		f.sources[0].lane.limit = rate.NewLimiter(bandwidth, bandwidth/10)
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if err := f.Fill(t.Context(), f.Map().Frame(i).Off, 1); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(5 * time.Millisecond)
		if s.requests() != 2 {
			t.Errorf("%d requests at a time", s.requests())
		}
		wg.Wait()
		got := float64(f.engine.Stats().Received) / time.Since(start).Seconds()
		if got > bandwidth*1.1 || got < bandwidth*0.7 {
			t.Errorf("%.0f bytes per second, %d are allowed", got, bandwidth)
		}
	})
}

// TestReadersGetAnErrorAtTheDeadline has a backend fail, or not answer, and come back.
func TestReadersGetAnErrorAtTheDeadline(t *testing.T) {
	down := errors.New("read bytes 0 to 9 of example.com/app@sha256:0: connection refused")
	for _, c := range []struct {
		name     string
		deadline time.Duration
		outage   time.Duration
		hang     bool
		want     time.Duration // until the reader knows
		fails    bool
		words    string
	}{
		{name: "refused", deadline: 20 * time.Second, outage: time.Minute, want: 20 * time.Second, fails: true, words: "connection refused"},
		{name: "hanging", deadline: 20 * time.Second, outage: time.Minute, hang: true, want: 20 * time.Second, fails: true, words: "test object: no answer yet"},
		{name: "back in time", deadline: 20 * time.Second, outage: 10 * time.Second, want: 15 * time.Second},
		{name: "waiting as long as it takes", deadline: -1, outage: time.Hour, want: time.Hour + 6*time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newSlowFixture(t, Options{ReadAhead: -1})
				f.SetDeadline(c.deadline)
				back := time.Now().Add(c.outage)
				s.fail = func() error {
					if c.hang {
						time.Sleep(time.Until(back))
					}
					if time.Now().Before(back) {
						return down
					}
					return nil
				}
				start := time.Now()
				seen := make(chan *Problem, 1)
				time.AfterFunc(8*time.Second, func() { seen <- f.Problem() })
				err := f.Fill(t.Context(), 0, 4096)
				took := time.Since(start)
				if c.fails != (err != nil) || took > c.want+time.Second || took < c.want/2 {
					t.Errorf("%v after %v, want failure %v after %v", err, took, c.fails, c.want)
				}
				if err != nil && (!strings.Contains(err.Error(), c.words) || f.Problem() == nil || !strings.Contains(f.Problem().Err.Error(), c.words)) {
					t.Errorf("error %v, problem %v, want %q in both", err, f.Problem(), c.words)
				}
				if p := <-seen; !c.hang && (p == nil || p.Final) {
					t.Errorf("while readers wait the problem is %+v", p)
				}
				time.Sleep(time.Until(back))
				if err := f.Fill(t.Context(), 0, 4096); err != nil || f.Problem() != nil {
					t.Errorf("after the outage: %v, problem %v", err, f.Problem())
				}
			})
		})
	}
}
