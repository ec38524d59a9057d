package ondemand

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// punchable is a memory that gives space back.
type punchable struct {
	*memory
	forgotten []int
	forget    error
}

func (p *punchable) Forget(frames ...int) error {
	p.forgotten = append(p.forgotten, frames...)
	return p.forget
}

func (p *punchable) Punch(off, n int64) error {
	p.with(func() { clear(p.data[off:][:n]) })
	return nil
}

func newPunchable(t *testing.T) (*fixture, *punchable) {
	f := newFixture(t, Options{})
	p := &punchable{memory: f.memory}
	f.Bind(p, p)
	if err := f.Fill(t.Context(), 0, f.Size()); err != nil {
		t.Fatal(err)
	}
	return f, p
}

func always(int64, int64) bool { return true }

func TestWhatIsColdIsDiscardedFirst(t *testing.T) {
	f, _ := newPunchable(t)
	if _, err := f.Discard(1, always); err != nil { // the hand has passed everything once
		t.Fatal(err)
	}
	hot := f.Map().Frame(f.Map().Frames() / 2)
	if !f.Has(hot.Off, 1) {
		t.Fatal("the frame is absent already")
	}
	freed, err := f.Discard(f.Size()/2, always)
	if err != nil || freed < f.Size()/2 || freed > f.Size()*3/4 {
		t.Errorf("%d of %d bytes were discarded, %v; want half", freed, f.Size(), err)
	}
	if !f.Has(hot.Off, 1) {
		t.Error("what was just wanted was discarded before what nobody wanted")
	}
}

func TestWhatIsReadIsNotDiscarded(t *testing.T) {
	f, p := newPunchable(t)
	read := f.Map().Frame(3)
	freed, err := f.Discard(f.Size(), func(off, n int64) bool { return off != read.Off })
	if err != nil || freed != f.Size()-int64(read.Len) {
		t.Errorf("%d of %d bytes were discarded, %v; want all but %d", freed, f.Size(), err, read.Len)
	}
	if !f.Has(read.Off, 1) || slices.Contains(p.forgotten, 3) {
		t.Error("the frame that is being read is gone")
	}
}

// TestAReadThatBeginsDuringTheDiscardKeepsItsBytes: it began after the first look, and before the frame was marked absent.
func TestAReadThatBeginsDuringTheDiscardKeepsItsBytes(t *testing.T) {
	f, p := newPunchable(t)
	read, looks := f.Map().Frame(0), 0
	_, err := f.Discard(f.Size(), func(off, n int64) bool {
		if off != read.Off {
			return true
		}
		looks++
		return looks == 1
	})
	if err != nil || looks < 2 {
		t.Fatalf("the frame was looked up %d times, %v", looks, err)
	}
	if slices.Contains(p.forgotten, 0) || !bytes.Equal(p.data[read.Off:][:read.Len], f.want[read.Off:][:read.Len]) {
		t.Error("bytes that are being read have been discarded")
	}
	if err := f.Fill(t.Context(), 0, f.Size()); err != nil || !bytes.Equal(p.data, f.want) {
		t.Errorf("fetched again are other bytes, %v", err)
	}
}

func TestNothingIsPunchedThatMightComeBack(t *testing.T) {
	f, p := newPunchable(t)
	p.forget = errors.New("the disk is broken")
	freed, err := f.Discard(f.Size(), always)
	if freed != 0 || !errors.Is(err, p.forget) {
		t.Errorf("%d bytes were discarded, %v", freed, err)
	}
	if !bytes.Equal(p.data, f.want) {
		t.Error("bytes were punched whose absence is not recorded")
	}
}

func TestATargetThatCannotPunchKeepsAll(t *testing.T) {
	f := newFixture(t, Options{})
	if err := f.Fill(t.Context(), 0, f.Size()); err != nil {
		t.Fatal(err)
	}
	if freed, err := f.Discard(f.Size(), always); freed != 0 || !errors.Is(err, ErrKept) {
		t.Errorf("%d bytes were discarded, %v", freed, err)
	}
}

// TestABlobThatIsClosedIsNotDiscarded: who closes it holds locks that others wait for.
func TestABlobThatIsClosedIsNotDiscarded(t *testing.T) {
	f, _ := newPunchable(t)
	looks, closed := 0, make(chan struct{})
	if _, err := f.Discard(1, func(int64, int64) bool {
		if looks++; looks == 2 {
			go func() {
				f.Close()
				close(closed)
			}()
			<-f.ctx.Done()
		}
		return looks%2 == 1 // each frame seems idle, and then is not
	}); err != nil {
		t.Error(err)
	}
	<-closed
	if looks != 2 {
		t.Errorf("%d more frames were looked at", looks/2-1)
	}
}

// TestReadersOfWhatIsDiscardedGetIt has readers ask for what is being discarded all the time.
func TestReadersOfWhatIsDiscardedGetIt(t *testing.T) {
	f, _ := newPunchable(t)
	stop := make(chan bool)
	var discarding, reading sync.WaitGroup
	discarding.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := f.Discard(256<<10, always); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for r := range 4 {
		reading.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 1))
			for range 300 {
				if err := f.Fill(t.Context(), rnd.Int64N(f.Size()), 100_000); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reading.Wait()
	close(stop)
	discarding.Wait()
	f.work.Wait() // what nobody waits for, such as read-ahead
	if n := len(f.inflight); n != 0 {
		t.Errorf("%d frames are left on their way", n)
	}
}

// TestAFullDiskIsGivenRoom has writes fail for want of space until room was made.
func TestAFullDiskIsGivenRoom(t *testing.T) {
	for _, c := range []struct {
		name  string
		fail  error
		after int // calls of Room after which there is space; 0: never
		calls int
		ok    bool
	}{
		{"at once", syscall.ENOSPC, 1, 1, true},
		{"at the second call", syscall.EDQUOT, 2, 2, true},
		{"never", syscall.ENOSPC, 0, 1, false},
		{"it is something else", syscall.EIO, 1, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var memory *memory
			calls := 0
			f := newFixture(t, Options{ReadAhead: -1, Room: func(context.Context) bool {
				if calls++; calls == c.after {
					memory.with(func() { memory.fail = nil })
				}
				return c.after > 0
			}})
			memory = f.memory
			memory.fail = c.fail
			if err := f.Fill(t.Context(), 0, 1); (err == nil) != c.ok || calls != c.calls {
				t.Errorf("%v after %d calls, want %d", err, calls, c.calls)
			}
		})
	}
}
