package mkfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/tartest"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/internal/require"
)

// patience is how long anything here may take before it counts as stuck.
const patience = 30 * time.Second

// layersThatShare are tars of which each has files, and pieces of files, that others have too.
func layersThatShare(t testing.TB, n int) [][]byte {
	t.Helper()
	var layers [][]byte
	for i := range n {
		var members []tartest.Member
		for j := range 60 {
			members = append(members, tartest.File(fmt.Sprintf("l%d/small%d", i, j), noise((i+j)%70, 600+j*700)))
		}
		for j := range 4 {
			members = append(members, tartest.File(fmt.Sprintf("l%d/large%d", i, j), noise(100+(i+j)%6, 500_000)))
		}
		layers = append(layers, tartest.Archive(t, members...))
	}
	return layers
}

// packInTime packs tars in a goroutine and waits for the end, which must come.
func packInTime(ctx context.Context, t *testing.T, o PackOptions, wrap func(layer int, r io.Reader) io.Reader, layers [][]byte) error {
	t.Helper()
	var reads []Read
	for i, stream := range layers {
		reads = append(reads, func(ctx context.Context, l *Layer) error { return l.ReadLayer(ctx, wrap(i, bytes.NewReader(stream))) })
	}
	ended := make(chan error, 1)
	go func() {
		p, err := Pack(ctx, o, reads...)
		if err == nil {
			err = p.Close()
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		stacks := make([]byte, 1<<20)
		t.Fatalf("packing does not end:\n%s", stacks[:runtime.Stack(stacks, true)])
		return nil
	}
}

// failsAt gives an error once so many bytes were read.
type failsAt struct {
	r    io.Reader
	left int
	err  error
}

func (f *failsAt) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, f.err
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func TestPackingEndsWheneverASourceFailsOrSomebodyCancels(t *testing.T) {
	layers, dir := layersThatShare(t, 9), t.TempDir()
	r := rand.New(rand.NewPCG(5, 6))
	before := runtime.NumGoroutine()
	broken, stopped := errors.New("the source broke"), errors.New("somebody pressed Ctrl-C")
	for run := range 40 {
		o := PackOptions{TempDir: dir, Frames: blob.WriterOptions{Workers: 1 + run%3, Level: blob.LevelFast}}
		ctx, cancel := context.WithCancelCause(t.Context())
		wrap := func(_ int, r io.Reader) io.Reader { return r }
		want := stopped
		if run%2 == 0 {
			bad, at := r.IntN(len(layers)), r.IntN(len(layers[0]))
			wrap = func(layer int, r io.Reader) io.Reader {
				if layer == bad {
					return &failsAt{r, at, broken}
				}
				return r
			}
			want = broken
		} else {
			time.AfterFunc(time.Duration(r.IntN(150))*time.Millisecond, func() { cancel(stopped) })
		}
		err := packInTime(ctx, t, o, wrap, layers)
		if run%2 == 0 && !errors.Is(err, want) || err != nil && !errors.Is(err, want) && !errors.Is(err, context.Canceled) {
			t.Errorf("run %d: %v, want %v", run, err, want)
		}
		cancel(nil)
	}
	await.True(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPackingEndsWhereverTheDiskIsFull(t *testing.T) {
	require.Root(t)
	layers := layersThatShare(t, 9)
	for _, kib := range []int{16, 300, 900, 1500, 2000, 2500, 3000, 3500, 4000, 5000} {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dk", kib)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		err := packInTime(t.Context(), t, PackOptions{TempDir: dir}, func(_ int, r io.Reader) io.Reader { return r }, layers)
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("with %d KiB: %v", kib, err)
		}
	}
}
