package ondemand

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
)

// wire is a link on a made-up clock: a rate that all requests share, and a round trip before each answer.
type wire struct {
	rate int // bytes per second
	rtt  time.Duration

	mu   sync.Mutex
	free time.Time // when the last byte queued so far will have arrived
	sent int64     // bytes
}

// wired is an object at the other end of a wire.
type wired struct {
	*wire
	data []byte
}

func (o *wired) Size() int64    { return int64(len(o.data)) }
func (o *wired) String() string { return "object behind a wire" }

func (o *wired) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	select {
	case <-time.After(o.rtt):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	b := &wiredBody{arrived: make(chan []byte, unread/segment), stop: stop}
	go func() {
		defer close(b.arrived)
		for data := o.data[off : off+n]; len(data) > 0; {
			k := min(len(data), segment)
			time.Sleep(time.Until(o.reserve(k)))
			select {
			case b.arrived <- data[:k]:
			case <-ctx.Done():
				return
			}
			data = data[k:]
		}
	}()
	return b, nil
}

// reserve queues n bytes and returns when the last of them will have arrived.
func (w *wire) reserve(n int) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(n) * time.Second / time.Duration(w.rate))
	w.sent += int64(n)
	return w.free
}

const (
	segment = 16 << 10 // bytes that are sent at a time
	unread  = 1 << 20  // bytes that a server sends to who does not read: kernels have buffers at both ends
)

// wiredBody is an answer. Its server sends on while nobody reads, as far as buffers go.
type wiredBody struct {
	arrived chan []byte
	rest    []byte
	stop    context.CancelFunc
}

func (b *wiredBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		var ok bool
		if b.rest, ok = <-b.arrived; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *wiredBody) Close() error {
	b.stop()
	return nil
}

// nowhere is a target that keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// converted is a blob's map and its object.
type converted struct {
	m    *blob.Map
	data []byte
}

// convertRandom makes a blob of files of the given sizes that do not compress.
func convertRandom(t *testing.T, sizes ...int) converted {
	t.Helper()
	content := rand.NewChaCha8([32]byte{7})
	var files [][]byte
	for _, size := range sizes {
		p := make([]byte, size)
		_, _ = content.Read(p)
		files = append(files, p)
	}
	return convertFiles(t, files...)
}

func convertFiles(t *testing.T, files ...[]byte) converted {
	t.Helper()
	var out bytes.Buffer
	w := blob.NewWriter(t.Context(), &out, blob.WriterOptions{})
	for _, p := range files {
		if _, err := w.Append(bytes.NewReader(p), int64(len(p))); err != nil {
			t.Fatal(err)
		}
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return converted{m, out.Bytes()}
}

// programs returns bytes of which half do not compress, as those of programs.
func programs(size int) []byte {
	p, content := make([]byte, size), rand.NewChaCha8([32]byte{7})
	for at := 0; at < size; at += 8 << 10 {
		_, _ = content.Read(p[at : at+4<<10])
	}
	return p
}

// behind returns the blob behind a wire, and what closes it and its engine.
func (c converted) behind(t *testing.T, w *wire, o Options) (b *Blob, closeAll func()) {
	t.Helper()
	e, err := New(slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = e.Blob(c.m, []backend.Object{&wired{w, c.data}}); err != nil {
		t.Fatal(err)
	}
	b.Bind(nowhere{}, &memory{present: make([]bool, c.m.Frames())})
	return b, func() { e.Close(); b.Close() }
}

// TestASequentialReaderGetsTheWholeLink reads a file in order, as the kernel does it: 128 KiB at a time, asking also for what is there already.
func TestASequentialReaderGetsTheWholeLink(t *testing.T) {
	big := convertRandom(t, 256<<20)
	for rtt, least := range map[time.Duration]float64{time.Millisecond: 0.98, 10 * time.Millisecond: 0.95, 20 * time.Millisecond: 0.86} {
		t.Run(fmt.Sprint(rtt), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{rate: 125e6, rtt: rtt}
				b, done := big.behind(t, w, Options{})
				defer done()
				const step = 128 << 10
				start := time.Now()
				for off := int64(0); off < b.Size(); off += step {
					if err := b.Fill(t.Context(), off, step); err != nil {
						t.Fatal(err)
					}
				}
				part := float64(b.Size()) / time.Since(start).Seconds() / float64(w.rate)
				t.Logf("%.3f of the link", part)
				if part < least {
					t.Errorf("a sequential reader gets %.2f of a link of 1 Gbit/s and %v, want %.2f", part, rtt, least)
				}
			})
		})
	}
}

// smallFiles is a blob of 20,000 files of 4 to 16 KiB, of which two thirds do not compress.
type smallFiles struct {
	converted
	offs  []int64 // where each file is in the blob, in bytes
	sizes []int64
}

func convertSmall(t *testing.T) (f smallFiles) {
	t.Helper()
	var out bytes.Buffer
	var refs []blob.Ref
	w := blob.NewWriter(t.Context(), &out, blob.WriterOptions{})
	content, rnd := rand.NewChaCha8([32]byte{7}), rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		p := make([]byte, 4<<10+rnd.IntN(12<<10+1))
		_, _ = content.Read(p[:len(p)*2/3])
		ref, err := w.Append(bytes.NewReader(p), int64(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		refs, f.sizes = append(refs, ref), append(f.sizes, int64(len(p)))
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		f.offs = append(f.offs, int64(w.Block(ref))*blob.BlockSize)
	}
	f.converted = converted{m, out.Bytes()}
	return f
}

// readSome reads a thousand of the files in random order over a link of 200 Mbit/s and 10 ms to a server that takes 2.5 ms for an answer. It returns how long that took, and how much was
// fetched for each byte read.
func (f smallFiles) readSome(t *testing.T, o Options) (took time.Duration, fetched float64) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{rate: 25e6, rtt: 12500 * time.Microsecond}
		b, done := f.behind(t, w, o)
		defer done()
		start, read := time.Now(), int64(0)
		for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(len(f.sizes))[:1000] {
			if err := b.Fill(t.Context(), f.offs[i], f.sizes[i]); err != nil {
				t.Fatal(err)
			}
			read += f.sizes[i]
		}
		took = time.Since(start)
		w.mu.Lock()
		defer w.mu.Unlock()
		fetched = float64(w.sent) / float64(read)
	})
	return took, fetched
}

// TestReadingAroundBuysTimeWithIdleBytes compares it with fetching what was missed and nothing else.
func TestReadingAroundBuysTimeWithIdleBytes(t *testing.T) {
	f := convertSmall(t)
	bare, least := f.readSome(t, Options{ReadAround: -1})
	took, fetched := f.readSome(t, Options{})
	t.Logf("%.2f s and %.1f bytes for each byte read; without guesses %.2f s and %.1f", took.Seconds(), fetched, bare.Seconds(), least)
	if took > bare*6/10 || fetched > 2.5*least {
		t.Errorf("guesses take %.2f of the time and %.2f of the bytes, want 0.6 and 2.5 at most", took.Seconds()/bare.Seconds(), fetched/least)
	}
}

// startOfTrue is what the kernel asks for, in blocks, while a container of Debian runs true: a shell's page, the program, its libraries, not from front to back.
var startOfTrue = [][2]int64{
	{36, 1}, {6556, 4}, {45530, 4}, {6560, 5}, {45566, 16}, {45582, 1}, {45556, 10}, {45555, 1}, {45546, 9}, {45540, 6}, {45536, 4}, {45535, 1},
	{45534, 1}, {27, 2}, {48777, 4}, {49229, 19}, {48781, 16}, {48797, 12}, {48809, 16}, {48825, 2}, {48827, 30}, {48953, 31}, {48984, 1}, {48936, 17},
	{48934, 2}, {48933, 1}, {48932, 1}, {49112, 31}, {49143, 1}, {49030, 31}, {49061, 1}, {48916, 16}, {48910, 6}, {48989, 31}, {49020, 1}, {48908, 2},
}

// TestGuessesDoNotDelayAProgramThatStarts replays a start over a link of 200 Mbit/s and 10 ms: what is guessed stands in the way of what is missed next, and spares some misses.
func TestGuessesDoNotDelayAProgramThatStarts(t *testing.T) {
	image := convertFiles(t, programs(200<<20))
	start := func(o Options) (took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			b, done := image.behind(t, &wire{rate: 25e6, rtt: 10 * time.Millisecond}, o)
			defer done()
			began := time.Now()
			for _, read := range startOfTrue {
				time.Sleep(2 * time.Millisecond)
				if err := b.Fill(t.Context(), read[0]*blob.BlockSize, read[1]*blob.BlockSize); err != nil {
					t.Fatal(err)
				}
			}
			took = time.Since(began)
		})
		return took
	}
	usual, bare, wide := start(Options{}), start(Options{ReadAround: -1}), start(Options{ReadAround: 2 << 20})
	t.Logf("%v; without guesses %v, with 2 MiB for each %v", usual, bare, wide)
	if usual > bare || usual > wide*9/10 {
		t.Errorf("a program starts in %v, without guesses in %v, with large ones in %v", usual, bare, wide)
	}
}
