package node

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

func TestAPrefetchThatFailsDoesNotInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var data bytes.Buffer
		w := blob.NewWriter(t.Context(), &data, blob.WriterOptions{})
		if _, err := w.Append(bytes.NewReader(make([]byte, 4096)), 4096); err != nil {
			t.Fatal(err)
		}
		m, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		e, err := ondemand.New(slog.New(slog.DiscardHandler), ondemand.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		object := &gone{size: int64(data.Len())}
		b, err := e.Blob(m, []backend.Object{object})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		b.Bind(nowhere{}, nowhere{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		told := 0
		if err := insist(ctx, func(error) { told++ }, func() error { return b.Prefetch(ctx, 0, b.Size()) }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := object.asked.Load(); told != 1 || n < 5 || n > 20 {
			t.Errorf("in ten minutes it asked %d times and told of it %d times", n, told)
		}
	})
}

// TestAPrefetchBeginsSoonAfterTheKernelOpensTheBlob counts what a wait for the kernel costs, and how late it ends.
func TestAPrefetchBeginsSoonAfterTheKernelOpensTheBlob(t *testing.T) {
	for _, c := range []struct {
		opened    time.Duration
		late, few int
	}{{30 * time.Millisecond, 40, 5}, {time.Hour, 60000, 100}} {
		synctest.Test(t, func(t *testing.T) {
			began, asked := time.Now(), 0
			err := insist(t.Context(), func(err error) { t.Errorf("told of %v", err) }, func() error {
				if asked++; time.Since(began) < c.opened {
					return ondemand.ErrUnbound
				}
				return nil
			})
			if late := time.Since(began) - c.opened; err != nil || late > time.Duration(c.late)*time.Millisecond || asked > c.few {
				t.Errorf("opened after %v, it began %v late, after asking %d times: %v", c.opened, late, asked, err)
			}
		})
	}
}
