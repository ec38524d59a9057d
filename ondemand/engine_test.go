package ondemand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// object is a source object in memory that counts what is asked of it and can be told to misbehave.
type object struct {
	data     []byte
	requests atomic.Int64
	spoil    func(request int64, off int64, b []byte) ([]byte, error) // may change or shorten the answer, or fail
	delay    time.Duration
}

func (o *object) Size() int64    { return int64(len(o.data)) }
func (o *object) String() string { return "test object" }

func (o *object) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r := o.requests.Add(1)
	select {
	case <-time.After(o.delay):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b := o.data[off : off+n]
	if o.spoil != nil {
		var err error
		if b, err = o.spoil(r, off, bytes.Clone(b)); err != nil {
			return nil, err
		}
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// memory is a target and a presence in memory. It notices frames that are written twice.
type memory struct {
	mu      sync.Mutex
	data    []byte
	present []bool
	writes  map[int64]int
	fail    error
}

func newMemory(m *blob.Map) *memory {
	return &memory{data: make([]byte, m.Size()), present: make([]bool, m.Frames()), writes: make(map[int64]int)}
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if uintptr(unsafe.Pointer(&p[0]))%4096 != 0 || off%4096 != 0 || len(p)%4096 != 0 {
		return 0, fmt.Errorf("unaligned write of %d bytes at %d", len(p), off)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return 0, m.fail
	}
	m.writes[off]++
	return copy(m.data[off:], p), nil
}

func (m *memory) with(f func()) { m.mu.Lock(); defer m.mu.Unlock(); f() }

func (m *memory) Has(i int) (ok bool) { m.with(func() { ok = m.present[i] }); return ok }
func (m *memory) Set(i int)           { m.with(func() { m.present[i] = true }) }
func (m *memory) Clear(i int)         { m.with(func() { m.present[i] = false }) }
func (m *memory) Count() (n int) {
	m.with(func() {
		for _, p := range m.present {
			if p {
				n++
			}
		}
	})
	return n
}

// fixture is a blob of many small files and one large one, its object, and where it is filled to.
type fixture struct {
	*Blob
	want   []byte
	object *object
	memory *memory
}

func newFixture(t testing.TB, o Options) *fixture {
	t.Helper()
	var out bytes.Buffer
	w := blob.NewWriter(t.Context(), &out, blob.WriterOptions{})
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range append(slices.Repeat([]int{9000, 30000, 65000}, 40), 5<<20+77) {
		p := make([]byte, size)
		for i := range p[:size/2] { // half compressible
			p[i] = byte(rnd.Uint32())
		}
		if _, err := w.Append(bytes.NewReader(p), int64(size)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := blob.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	f := &fixture{object: &object{data: out.Bytes()}, memory: newMemory(m), want: make([]byte, m.Size())}
	for i := range m.Frames() {
		fr := m.Frame(i)
		if err := dec.Decode(f.want[fr.Off:][:fr.Len], out.Bytes()[fr.SrcOff:][:fr.SrcLen], fr); err != nil {
			t.Fatal(err)
		}
	}
	e, err := New(slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	f.Blob, err = e.Blob(m, []backend.Object{f.object})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	f.Bind(f.memory, f.memory)
	return f
}

// TestFramesAreFetchedOnce has many readers ask for everything at once, in different orders.
func TestFramesAreFetchedOnce(t *testing.T) {
	f := newFixture(t, Options{})
	f.object.delay = time.Millisecond
	var completed atomic.Int64
	f.OnComplete(func() { completed.Add(1) })
	var wg sync.WaitGroup
	for r := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 0))
			for _, p := range rnd.Perm(int(f.Size() / 4096)) {
				if err := f.Fill(t.Context(), int64(p)*4096, 1+rnd.Int64N(128<<10)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(f.memory.data, f.want) {
		t.Error("the target's bytes differ from the blob's")
	}
	for off, n := range f.memory.writes {
		if n != 1 {
			t.Errorf("frame at %d was written %d times", off, n)
		}
	}
	// What is given up, or asked for a second time because it is late, is asked for again, but not read twice.
	if got := f.engine.Stats().Received; got != f.object.Size() {
		t.Errorf("received %d source bytes, the object has %d", got, f.object.Size())
	}
	if !f.Complete() || f.Present() != f.Size() || completed.Load() != 1 {
		t.Errorf("complete %v, present %d of %d, told %d times", f.Complete(), f.Present(), f.Size(), completed.Load())
	}
}

// TestNothingUnverifiedIsWritten has the object lie, once or always.
func TestNothingUnverifiedIsWritten(t *testing.T) {
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	for _, c := range []struct {
		name  string
		spoil func(request, off int64, b []byte) ([]byte, error)
		want  error
	}{
		{"corrupt once", func(r, _ int64, b []byte) ([]byte, error) {
			if r == 1 {
				b = flip(b)
			}
			return b, nil
		}, nil},
		{"short once", func(r, _ int64, b []byte) ([]byte, error) {
			if r == 1 {
				b = b[:len(b)/2]
			}
			return b, nil
		}, nil},
		{"error twice", func(r, _ int64, b []byte) ([]byte, error) {
			if r <= 2 {
				return nil, errors.New("server is down")
			}
			return b, nil
		}, nil},
		{"always corrupt", func(_, _ int64, b []byte) ([]byte, error) { return flip(b), nil }, blob.ErrCorrupt},
		{"always short", func(_, _ int64, b []byte) ([]byte, error) { return b[:0], nil }, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, Options{Attempts: 4, Backoff: time.Microsecond, ReadAhead: -1})
			f.object.spoil = c.spoil
			err := f.Fill(t.Context(), 0, 4096)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			n := f.Map().Frame(0).Len
			if c.want == nil && !bytes.Equal(f.memory.data[:n], f.want[:n]) {
				t.Error("wrong bytes in the target")
			}
			if c.want != nil && (len(f.memory.writes) != 0 || f.Has(0, 1)) {
				t.Error("something was written")
			}
		})
	}
}

// TestFailureIsNotRemembered has a backend come back.
func TestFailureIsNotRemembered(t *testing.T) {
	f := newFixture(t, Options{Attempts: 4, Backoff: time.Microsecond, ReadAhead: -1})
	down := errors.New("server is down")
	f.object.spoil = func(int64, int64, []byte) ([]byte, error) { return nil, down }
	if err := f.Fill(t.Context(), 0, 4096); !errors.Is(err, down) {
		t.Fatalf("got %v, want %v", err, down)
	}
	f.object.spoil = nil
	f.memory.fail = errors.New("no space")
	if err := f.Fill(t.Context(), 0, 4096); !errors.Is(err, f.memory.fail) {
		t.Fatalf("got %v, want %v", err, f.memory.fail)
	}
	f.memory.fail = nil
	if err := f.Fill(t.Context(), 0, 4096); err != nil {
		t.Fatal(err)
	}
}

// TestOneBadFrameSparesTheOthers reads the neighbours of a frame that is corrupt at its source, all in one request.
func TestOneBadFrameSparesTheOthers(t *testing.T) {
	f := newFixture(t, Options{Attempts: 4, Backoff: time.Microsecond, ReadAhead: -1})
	bad := f.Map().Frame(2)
	f.object.data[bad.SrcOff+int64(bad.SrcLen)/2] ^= 1
	if err := f.Fill(t.Context(), 0, f.Size()); !errors.Is(err, blob.ErrCorrupt) {
		t.Fatalf("got %v, want %v", err, blob.ErrCorrupt)
	}
	for i := range f.Map().Frames() {
		fr := f.Map().Frame(i)
		if err := f.Fill(t.Context(), fr.Off, 1); (err == nil) != (i != 2) {
			t.Errorf("frame %d: %v", i, err)
		}
	}
}

// TestSequentialMissesGrowTheRequests counts requests over a sequential read.
func TestSequentialMissesGrowTheRequests(t *testing.T) {
	count := func(o Options) int64 {
		f := newFixture(t, o)
		for off := int64(0); off < f.Size(); off += 128 << 10 {
			if err := f.Fill(t.Context(), off, 128<<10); err != nil {
				t.Fatal(err)
			}
		}
		return f.object.requests.Load()
	}
	with, without := count(Options{}), count(Options{ReadAhead: -1})
	t.Logf("%d requests with read-ahead, %d without", with, without)
	if with*3 > without {
		t.Errorf("read-ahead saves too little: %d requests against %d", with, without)
	}
}

// TestAWaiterCanLeave cancels one of two readers of the same frame.
func TestAWaiterCanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		f.object.delay = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := f.Fill(t.Context(), 0, 1); err != nil {
				t.Error(err)
			}
		})
		if err := f.Fill(ctx, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		wg.Wait()
	})
}

// TestCloseEndsWaiting closes a blob under a reader.
func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{})
		f.object.delay = time.Hour
		got := make(chan error)
		go func() { got <- f.Fill(t.Context(), 0, 1) }()
		synctest.Wait()
		f.Close()
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
		if err := f.Fill(t.Context(), 0, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: got %v, want %v", err, ErrClosed)
		}
	})
}

func TestRangesOutsideTheBlobAreRefused(t *testing.T) {
	f := newFixture(t, Options{})
	for _, r := range [][2]int64{{-4096, 4096}, {0, 0}, {0, -1}, {f.Size(), 1}, {1 << 62, 1 << 62}} {
		if err := f.Fill(t.Context(), r[0], r[1]); err == nil {
			t.Errorf("range %d+%d was filled", r[0], r[1])
		}
	}
	if err := f.Fill(t.Context(), f.Size()-1, 1<<62); err != nil {
		t.Errorf("range that ends past the blob: %v", err)
	}
}

// BenchmarkMiss measures the engine's share of a miss: 128 KiB raw frames from memory to memory.
func BenchmarkMiss(b *testing.B) {
	f := newFixture(b, Options{ReadAhead: -1})
	b.SetBytes(int64(f.Map().Frame(0).Len))
	for b.Loop() {
		f.memory.Clear(0)
		if err := f.Fill(b.Context(), 0, 4096); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHit measures a request whose frames are present.
func BenchmarkHit(b *testing.B) {
	f := newFixture(b, Options{})
	if err := f.Fill(b.Context(), 0, f.Size()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !f.Has(4096, 128<<10) {
			b.Fatal("not present")
		}
	}
}
