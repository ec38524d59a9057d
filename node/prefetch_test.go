package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
)

// gone is an object whose server is away.
type gone struct {
	size  int64
	asked atomic.Int32
}

func (g *gone) Size() int64    { return g.size }
func (g *gone) String() string { return "the object" }
func (g *gone) Range(context.Context, int64, int64) (io.ReadCloser, error) {
	g.asked.Add(1)
	return nil, errors.New("refused")
}

// nowhere is a target that has nothing and takes nothing.
type nowhere struct{}

func (nowhere) WriteAt([]byte, int64) (int, error) { return 0, errors.New("no space left") }
func (nowhere) Has(int) bool                       { return false }
func (nowhere) Set(int)                            {}
func (nowhere) Clear(int)                          {}
func (nowhere) Count() int                         { return 0 }

// newBlob makes a blob of one file of the given size, and its source object.
func newBlob(t *testing.T, size int) (m *blob.Map, object []byte) {
	t.Helper()
	var data bytes.Buffer
	w := blob.NewWriter(t.Context(), &data, blob.WriterOptions{})
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(content)
	if _, err := w.Append(bytes.NewReader(content), int64(size)); err != nil {
		t.Fatal(err)
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return m, data.Bytes()
}

func newEngine(t *testing.T) *ondemand.Engine {
	t.Helper()
	e, err := ondemand.New(slog.New(slog.DiscardHandler), ondemand.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// dead is a target that the kernel has taken the file from without a word.
type dead struct{ nowhere }

func (dead) WriteAt([]byte, int64) (int, error) { return 0, ondemand.ErrUnbound }

func TestAPrefetchIntoADeadCacheDoesNotInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server slowServer
		b := server.blob(t, newEngine(t), "object", 4096)
		b.Bind(dead{}, dead{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := insist(ctx, b, func(err error) { t.Errorf("told of %v", err) }, func() error { return b.Prefetch(ctx, 0, b.Size()) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := len(server.asked); n < 5 || n > 80 {
			t.Errorf("in an hour it asked %d times", n)
		}
	})
}

func TestAPrefetchThatFailsDoesNotInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, data := newBlob(t, 4096)
		e := newEngine(t)
		object := &gone{size: int64(len(data))}
		b, err := e.Blob(m, []backend.Object{object})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		b.Bind(nowhere{}, nowhere{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		told := 0
		if err := insist(ctx, b, func(error) { told++ }, func() error { return b.Prefetch(ctx, 0, b.Size()) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := object.asked.Load(); told != 1 || n < 5 || n > 20 {
			t.Errorf("in ten minutes it asked %d times and told of it %d times", n, told)
		}
	})
}

// TestAPrefetchBeginsSoonAfterTheKernelOpensTheBlob has the kernel open a blob, close it and open it again an hour later, as when an image is prepared long before it is mounted. Nothing may be
// fetched meanwhile.
func TestAPrefetchBeginsSoonAfterTheKernelOpensTheBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server slowServer
		b := server.blob(t, newEngine(t), "object", 4096)
		first, second := &somewhere{}, &somewhere{have: make(map[int]bool)}
		b.Bind(first, first)
		b.Unbind(first)
		began := time.Now()
		go func() {
			time.Sleep(time.Hour)
			if len(server.asked) > 0 {
				t.Errorf("%q were fetched for a target that is closed", server.asked)
			}
			b.Bind(second, second)
		}()
		tries := 0
		err := insist(t.Context(), b, func(err error) { t.Errorf("told of %v", err) }, func() error {
			tries++
			return b.Prefetch(t.Context(), 0, b.Size())
		})
		if late := time.Since(began) - time.Hour; err != nil || late > 2*time.Second || tries > 2 {
			t.Errorf("it ended %v after the kernel had opened the blob, at try %d: %v", late, tries, err)
		}
		if !b.Complete() {
			t.Error("what was fetched is not there")
		}
	})
}

// slowServer takes a second for each answer, and notes the names of the objects that it was asked for.
type slowServer struct {
	mu    sync.Mutex
	asked []string
}

// blob makes a blob of one file whose source object the server has.
func (s *slowServer) blob(t *testing.T, e *ondemand.Engine, name string, size int) *ondemand.Blob {
	t.Helper()
	m, data := newBlob(t, size)
	b, err := e.Blob(m, []backend.Object{&slow{s, name, data}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// slow is an object of a slowServer.
type slow struct {
	server *slowServer
	name   string
	data   []byte
}

func (s *slow) Size() int64    { return int64(len(s.data)) }
func (s *slow) String() string { return s.name }
func (s *slow) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	s.server.mu.Lock()
	s.server.asked = append(s.server.asked, s.name)
	s.server.mu.Unlock()
	time.Sleep(time.Second)
	return io.NopCloser(bytes.NewReader(s.data[off : off+n])), nil
}

// somewhere is a target that keeps nothing but what is present.
type somewhere struct {
	mu   sync.Mutex
	have map[int]bool
}

func (s *somewhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (s *somewhere) Has(i int) bool                         { s.mu.Lock(); defer s.mu.Unlock(); return s.have[i] }
func (s *somewhere) Set(i int)                              { s.mu.Lock(); defer s.mu.Unlock(); s.have[i] = true }
func (s *somewhere) Clear(i int)                            { s.mu.Lock(); defer s.mu.Unlock(); delete(s.have, i) }
func (s *somewhere) Count() int                             { s.mu.Lock(); defer s.mu.Unlock(); return len(s.have) }

// TestWhatAProfileNamesIsFetchedBeforeTheRest has the profile name something in the last blob of two.
func TestWhatAProfileNamesIsFetchedBeforeTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t)
		var server slowServer
		img := &image{record: record{Policy: policy{Prefetch: true}, Blobs: []blobRecord{{}, {Hot: 3 << 20}}}, attached: &ondemand.Image{}}
		for i, name := range []string{"cold", "hot"} {
			b := server.blob(t, e, name, (4+i)<<20)
			to := &somewhere{have: make(map[int]bool)}
			b.Bind(to, to)
			img.attached.Blobs = append(img.attached.Blobs, b)
		}
		n := &Node{log: slog.New(slog.DiscardHandler)}
		n.prefetch(img)
		img.prefetches.work.Wait()
		asked := server.asked
		if len(asked) < 3 || asked[0] != "hot" || asked[1] != "cold" || asked[len(asked)-1] != "hot" || !img.complete() {
			t.Errorf("asked for %v", asked)
		}
	})
}
