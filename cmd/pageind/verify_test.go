package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/await"
)

// verifier is readers that compare pieces of files, at random, with where they came from.
type verifier struct {
	testing.TB
	stop    chan struct{}
	readers sync.WaitGroup

	mu    sync.Mutex
	kill  time.Time // the last one after which nothing that had to be fetched was read yet; zero without one
	total verified
}

// verified is what readers found.
type verified struct {
	reads, bytes int64
	wrong        int64 // bytes that differ
	zeros        int64 // of them, in pages that are all zeros and should not be
	failed       []error
	pauses       []time.Duration // from a kill until a read was answered by a successor
}

// slowRead is longer than a read of what is in the page cache or on the disk takes: a daemon has answered it.
const slowRead = 5 * time.Millisecond

// startVerifying has that many readers compare the files of tree with those in got until they are ended.
func startVerifying(t testing.TB, tree, got string, readers int) *verifier {
	t.Helper()
	v := &verifier{TB: t, stop: make(chan struct{})}
	names, err := filepath.Glob(filepath.Join(tree, "*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for i := range readers {
		rnd := rand.New(rand.NewPCG(1, uint64(i)))
		v.readers.Go(func() {
			for {
				select {
				case <-v.stop:
					return
				default:
				}
				source := names[rnd.IntN(len(names))]
				v.compare(rnd, source, filepath.Join(got, filepath.Base(source)))
			}
		})
	}
	return v
}

// compare reads 16 pieces of a file.
func (v *verifier) compare(rnd *rand.Rand, source, path string) {
	err := func() error {
		want, err := os.Open(source)
		if err != nil {
			return err
		}
		defer want.Close()
		got, err := os.Open(path)
		if err != nil {
			return err
		}
		defer got.Close()
		st, err := want.Stat()
		if err != nil {
			return err
		}
		for range 16 {
			select {
			case <-v.stop:
				return nil
			default:
			}
			off := rnd.Int64N(st.Size())
			a := make([]byte, min(st.Size()-off, 1+rnd.Int64N(64<<10)))
			b := make([]byte, len(a))
			if _, err := want.ReadAt(a, off); err != nil {
				return err
			}
			began := time.Now()
			if _, err := got.ReadAt(b, off); err != nil {
				return fmt.Errorf("read %d bytes at %d: %w", len(b), off, err)
			}
			v.note(began, a, b)
		}
		return nil
	}()
	if err != nil {
		v.mu.Lock()
		v.total.failed = append(v.total.failed, err)
		v.mu.Unlock()
	}
}

func (v *verifier) note(began time.Time, want, got []byte) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.total.reads++
	v.total.bytes += int64(len(got))
	if now.Sub(began) > slowRead && !v.kill.IsZero() {
		v.total.pauses = append(v.total.pauses, now.Sub(v.kill))
		v.kill = time.Time{}
	}
	if bytes.Equal(want, got) {
		return
	}
	for len(got) > 0 {
		n := min(len(got), 4096)
		wrong := int64(0)
		for i := range n {
			if want[i] != got[i] {
				wrong++
			}
		}
		v.total.wrong += wrong
		if wrong > 0 && bytes.Count(got[:n], []byte{0}) == n {
			v.total.zeros += wrong
		}
		want, got = want[n:], got[n:]
	}
}

// killed is called when the daemon that was killed at that time is gone.
func (v *verifier) killed(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kill.IsZero() {
		v.kill = at
	}
}

// awaitAnswer waits until a successor has answered a read, but no longer than that: there may be nothing left to be fetched.
func (v *verifier) awaitAnswer(most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		v.mu.Lock()
		answered := v.kill.IsZero()
		v.mu.Unlock()
		if answered {
			return
		}
	}
}

// end stops the readers and returns what they found. A reader that does not end is an error.
func (v *verifier) end() verified {
	v.Helper()
	close(v.stop)
	ended := make(chan struct{})
	go func() {
		v.readers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(await.Patience):
		v.Error("a reader is stuck")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.total
}

// quiet is a log that nobody reads.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// throttled lets all answers of a server together have that many bytes per second.
func throttled(h http.Handler, bandwidth int) http.Handler {
	link := new(sync.Mutex)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w = &slowWriter{w, r.Context(), link, bandwidth}
		}
		h.ServeHTTP(w, r)
	})
}

type slowWriter struct {
	http.ResponseWriter
	ctx       context.Context // of the request: who has hung up takes no bandwidth
	link      *sync.Mutex
	bandwidth int
}

func (w *slowWriter) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		if err := w.ctx.Err(); err != nil {
			return n, err
		}
		piece := b[:min(len(b), 16<<10)]
		w.link.Lock()
		time.Sleep(time.Duration(len(piece)) * time.Second / time.Duration(w.bandwidth))
		w.link.Unlock()
		var m int
		m, err = w.ResponseWriter.Write(piece)
		n, b = n+m, b[m:]
	}
	return n, err
}
