// Package backendtest is the conformance suite for [backend.Object]: what every implementation must do with a well-behaved source.
package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/pagein/pagein/ondemand/backend"
)

// Suite says how to get at what is tried.
type Suite struct {
	// Open returns the object with the given content.
	Open func(t *testing.T, content []byte) backend.Object
	// Missing returns an object that its source does not have. It is called after Open.
	Missing func(t *testing.T) backend.Object
}

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	content := make([]byte, 3<<20+123)
	rand.NewChaCha8([32]byte{1}).Read(content)
	o := s.Open(t, content)

	t.Run("SizeIsTheContents", func(t *testing.T) {
		if o.Size() != int64(len(content)) {
			t.Errorf("size is %d, want %d", o.Size(), len(content))
		}
	})
	t.Run("NameSaysSomething", func(t *testing.T) {
		if len(o.String()) < 10 || strings.ContainsAny(o.String(), "\n\r?") {
			t.Errorf("name is %q", o.String())
		}
	})
	t.Run("RangesAreExact", func(t *testing.T) { ranges(t, o, content) })
	t.Run("ReaderEndsAfterTheRangeAndStaysThere", func(t *testing.T) { end(t, o, content) })
	t.Run("RangesOutsideAreRefusedForGood", func(t *testing.T) { outside(t, o) })
	t.Run("ReaderCanBeClosedEarly", func(t *testing.T) { closeEarly(t, o, content) })
	t.Run("RangesAreReadConcurrently", func(t *testing.T) { concurrent(t, o, content) })
	t.Run("EndedContextEndsReading", func(t *testing.T) { ended(t, o) })
	t.Run("RejectedBytesCanBeReadAgain", func(t *testing.T) { rejected(t, o, content) })
	t.Run("MissingObjectFailsForGood", func(t *testing.T) { missing(t, s.Missing(t)) })
}

// Read reads a range of an object completely.
func Read(ctx context.Context, o backend.Object, off, n int64) (b []byte, err error) {
	r, err := o.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

func ranges(t *testing.T, o backend.Object, content []byte) {
	size := int64(len(content))
	for _, c := range []struct{ off, n int64 }{{0, 1}, {0, 4096}, {0, size}, {1, size - 1}, {size - 1, 1}, {12345, 1 << 20}, {size - 4096, 4096}} {
		got, err := Read(context.Background(), o, c.off, c.n)
		if err != nil {
			t.Errorf("%d bytes at %d: %v", c.n, c.off, err)
		} else if !bytes.Equal(got, content[c.off:c.off+c.n]) {
			t.Errorf("%d bytes at %d: got %d other bytes", c.n, c.off, len(got))
		}
	}
}

func outside(t *testing.T, o backend.Object) {
	for _, c := range []struct{ off, n int64 }{{-1, 1}, {0, 0}, {0, -1}, {0, o.Size() + 1}, {o.Size(), 1}, {1, 1<<63 - 1}, {1<<63 - 1, 1}} {
		r, err := o.Range(context.Background(), c.off, c.n)
		if err == nil {
			_ = r.Close()
			t.Errorf("%d bytes at %d are opened", c.n, c.off)
		} else if !backend.IsPermanent(err) {
			t.Errorf("%d bytes at %d: %v is not permanent", c.n, c.off, err)
		}
	}
}

func closeEarly(t *testing.T, o backend.Object, content []byte) {
	for _, n := range []int64{100, 1 << 20} {
		r, err := o.Range(context.Background(), 10, n)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 50)
		if _, err := io.ReadFull(r, b); err != nil || !bytes.Equal(b, content[10:60]) {
			t.Errorf("first bytes of %d: %v", n, err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("close after 50 of %d bytes: %v", n, err)
		}
	}
	ranges(t, o, content)
}

func concurrent(t *testing.T, o backend.Object, content []byte) {
	var wg sync.WaitGroup
	for worker := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(worker, 2))
			for range 20 {
				off := r.Int64N(o.Size() - 1)
				n := 1 + r.Int64N(min(o.Size()-off, 300_000))
				got, err := Read(context.Background(), o, off, n)
				if err != nil || !bytes.Equal(got, content[off:off+n]) {
					t.Errorf("%d bytes at %d: %d bytes, %v", n, off, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

func ended(t *testing.T, o backend.Object) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, o, 0, 4096); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want one that says so", err)
	} else if backend.IsPermanent(err) {
		t.Error(fmt.Errorf("%w is permanent", err))
	}
}

// end reads with a buffer of a few bytes, which must see the end exactly once all are there.
func end(t *testing.T, o backend.Object, content []byte) {
	const off, n = 4090, 20
	r, err := o.Range(context.Background(), off, n)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, buf := []byte(nil), make([]byte, 7)
	for {
		k, err := r.Read(buf)
		got = append(got, buf[:k]...)
		if err == io.EOF {
			break
		}
		if err != nil || len(got) > n {
			t.Fatalf("%d bytes, then %v", len(got), err)
		}
	}
	if !bytes.Equal(got, content[off:off+n]) {
		t.Errorf("got %d bytes, which are others", len(got))
	}
	if k, err := r.Read(buf); k != 0 || err != io.EOF {
		t.Errorf("after the end: %d bytes, %v", k, err)
	}
}

// rejected says that right bytes were wrong, which must do no harm.
func rejected(t *testing.T, o backend.Object, content []byte) {
	r, err := o.Range(context.Background(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	backend.Reject(r)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	ranges(t, o, content)
}

func missing(t *testing.T, o backend.Object) {
	_, err := Read(context.Background(), o, 5, min(100, o.Size()-5))
	if err == nil || !backend.IsPermanent(err) {
		t.Fatalf("error is %v, want a permanent one", err)
	}
	for _, want := range []string{o.String(), "bytes 5 to "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}
