package ondemand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/ondemand/backend"
)

// another is the fixture's blob once more, from another host.
func (f *fixture) another(t *testing.T, o backend.Object) *Blob {
	t.Helper()
	b, err := f.engine.Blob(f.m, []backend.Object{o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	b.sources[0].lane = &lane{slots: newSlots(f.engine.opts.HostRequests)}
	to := newMemory(f.m)
	b.Bind(to, to)
	return b
}

// dead returns the fixture's blob from another host that answers after an hour, and has as many readers as the host may have requests wait for it.
func (f *fixture) dead(ctx context.Context, t *testing.T) *Blob {
	t.Helper()
	o := &slowObject{object: object{data: f.object.data}, rate: 10e6, delay: func(int) time.Duration { return time.Hour }}
	b := f.another(t, o)
	for i := range f.engine.opts.HostRequests {
		go func() { _ = b.Fill(ctx, b.Map().Frame(i).Off, 1) }()
	}
	return b
}

// TestHostsThatDoNotAnswerStopNoOther has hosts fail at once that together may have more requests than the engine.
func TestHostsThatDoNotAnswerStopNoOther(t *testing.T) {
	for _, hosts := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(hosts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := newSlowFixture(t, Options{ReadAhead: -1, RequestBytes: 1, Deadline: -1})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for range hosts {
					f.dead(ctx, t)
				}
				synctest.Wait()
				start := time.Now()
				if err := f.Fill(ctx, 0, 4096); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > time.Duration(hosts)*slowAnswer {
					t.Errorf("a reader of another host waited %v", took)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if free := f.engine.slots.free; free != f.engine.opts.Requests {
					t.Errorf("in the long run %d of %d slots are free", free, f.engine.opts.Requests)
				}
			})
		})
	}
}

func TestABlobThatIsClosedWhileItWaitsForASlotLeavesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1, RequestBytes: 1, Requests: 2, Deadline: -1})
		s.delay = func(int) time.Duration { return time.Hour }
		b := f.another(t, f.object)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 2 {
			go func() { _ = f.Fill(ctx, f.Map().Frame(i).Off, 1) }()
		}
		synctest.Wait()
		go func() { _ = b.Fill(ctx, 0, 1) }()
		synctest.Wait()
		held := b.sources[0].lane.slots
		if held.free != 1 {
			t.Fatalf("%d of the host's 2 slots are free while the job waits for one of the engine's", held.free)
		}
		b.Close()
		if held.free != 2 || len(f.engine.slots.queues[demand]) != 0 {
			t.Errorf("%d of the host's 2 slots are free, %d claims wait", held.free, len(f.engine.slots.queues[demand]))
		}
	})
}

func TestAHostInTroubleHoldsNoPrefetchBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newSlowFixture(t, Options{ReadAhead: -1})
		s.fail = func() error { return errors.New("refused") }
		f.SetDeadline(-1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = f.Fill(ctx, 0, 4096) }()
		time.Sleep(time.Minute)
		if f.Problem() == nil {
			t.Fatal("no reader waits for the host")
		}
		start := time.Now()
		if err := f.another(t, f.object).Prefetch(ctx, 0, f.Size()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("a prefetch from another host took %v", took)
		}
	})
}

// TestWhoWaitsForADeadHostHoldsNoPrefetchBack has more readers than the host may have requests, and some that want what is being prefetched from it.
func TestWhoWaitsForADeadHostHoldsNoPrefetchBack(t *testing.T) {
	for name, prefetchFirst := range map[string]bool{"a prefetch under way": true, "a prefetch in the queue": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newSlowFixture(t, Options{ReadAhead: -1, RequestBytes: 1, Deadline: -1, HostRequests: 3})
				s.delay = func(int) time.Duration { return time.Hour }
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				read := func(frame int) {
					go func() { _ = f.Fill(ctx, f.m.Frame(frame).Off, 1) }()
					time.Sleep(time.Minute)
				}
				prefetch := func() { go func() { _ = f.Prefetch(ctx, f.m.Frame(0).Off, 1) }() }
				if prefetchFirst {
					prefetch()
				}
				for i := range 5 {
					read(1 + i)
				}
				prefetch()
				time.Sleep(time.Minute)
				read(0)
				start := time.Now()
				if err := f.another(t, f.object).Prefetch(ctx, 0, f.Size()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("a prefetch from another host took %v", took)
				}
			})
		})
	}
}

func TestAClaimThatEndsAsItIsGrantedHoldsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := newSlots(2)
	for range 100 { // wait may see either first
		tk := newTicket(prefetch)
		s.enqueue(tk)
		if s.wait(ctx, tk) == nil {
			s.release(tk)
		}
	}
	if s.free != 2 || s.idle != 1 {
		t.Errorf("%d slots are free, %d of them for idle classes", s.free, s.idle)
	}
}

// wildObject fails, stops, lies and dawdles at random.
type wildObject struct {
	object
	mu  sync.Mutex
	rnd *rand.Rand
}

func (o *wildObject) roll(n int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rnd.IntN(n)
}

func (o *wildObject) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	wait := time.Duration(o.roll(30)) * time.Millisecond
	if o.roll(20) == 0 {
		wait = time.Duration(o.roll(3000)) * time.Millisecond
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b := bytes.Clone(o.data[off : off+n])
	switch o.roll(8) {
	case 0:
		return nil, errors.New("refused")
	case 1:
		return nil, fmt.Errorf("read %s: %w", o, context.DeadlineExceeded)
	case 2:
		b = b[:o.roll(len(b))]
	case 3:
		b[o.roll(len(b))] ^= 1
	}
	return slowBody{bytes.NewReader(b), 10e6}, nil
}

// TestEverySlotComesBack has readers that leave, prefetches, read-ahead, guesses and an evicting hand meet a source and a disk that fail at random, and looks at what is held when all is quiet.
func TestEverySlotComesBack(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runWild(t, seed) })
		})
	}
}

func runWild(t *testing.T, seed uint64) {
	f := newFixture(t, Options{Requests: 4, HostRequests: 3, RequestBytes: 256 << 10, Backoff: 10 * time.Millisecond, Deadline: 2 * time.Second})
	f.sources[0].Object = &wildObject{object: object{data: f.object.data}, rnd: rand.New(rand.NewPCG(seed, 1))}
	var wg sync.WaitGroup
	for worker := range uint64(12) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 2+worker))
			at := int64(0)
			for range 60 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rnd.IntN(500))*time.Millisecond)
				switch n := int64(1 + rnd.IntN(300<<10)); rnd.IntN(8) {
				case 0:
					_ = f.Prefetch(ctx, rnd.Int64N(f.Size()), 1+rnd.Int64N(4<<20))
				case 1:
					f.memory.Clear(rnd.IntN(f.m.Frames()))
					full := []error{nil, nil, errors.New("no space left")}[rnd.IntN(3)]
					f.memory.with(func() { f.memory.fail = full })
				case 2, 3:
					at = rnd.Int64N(f.Size())
					fallthrough
				default:
					if f.Fill(ctx, at, n) == nil {
						at = (at + n) % f.Size()
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Minute)
	synctest.Wait()

	for name, s := range map[string]*slots{"engine": f.engine.slots, "host": f.sources[0].lane.slots} {
		all := map[string]int{"engine": 4, "host": 3}[name]
		if s.free != all || s.idle != newSlots(all).idle {
			t.Errorf("%s: %d of %d slots are free, %d of %d idle ones", name, s.free, all, s.idle, newSlots(all).idle)
		}
		for c := range classes {
			if n := len(s.queues[c]); n > 0 {
				t.Errorf("%s: %d claims of class %s wait", name, n, c)
			}
		}
	}
	if n := f.engine.gate.waiting(); n != 0 || f.engine.gate.open != nil {
		t.Errorf("%d readers are counted as waiting", n)
	}
	got := f.engine.Stats()
	if got.Active != 0 || got.Waiting != 0 || len(f.inflight) != 0 {
		t.Errorf("%d requests, %d readers and %d frames are left over", got.Active, got.Waiting, len(f.inflight))
	}
	for off, n := range f.memory.writes {
		i := f.m.Find(off)
		if fr := f.m.Frame(i); n > 0 && !bytes.Equal(f.memory.data[off:][:fr.Len], f.want[off:][:fr.Len]) {
			t.Errorf("frame %d holds wrong bytes", i)
		}
	}
	t.Logf("%d requests, %d retries, %d second ones, %d errors, %d readers got one", got.Requests, got.Retries, got.Hedges, got.Errors, got.Failed)
}
