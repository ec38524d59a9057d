package units

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
)

func newStore(ctx context.Context, t *testing.T, intakes int) *Store {
	t.Helper()
	s, err := New(ctx, Options{MaxSmall: 64 << 10, MaxPiece: 128 << 10, Workers: 3, Intakes: intakes, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// stored reads a unit back from its stored form.
func stored(t *testing.T, s *Store, u Unit) []byte {
	t.Helper()
	src, dst := make([]byte, u.Stored), make([]byte, u.Len)
	if _, err := s.ReadAt(src, u.Off); err != nil {
		t.Fatal(err)
	}
	d, err := blob.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Decode(dst, src, blob.Frame{Len: int(u.Len), SrcLen: int(u.Stored), Codec: u.Codec, Digest: u.Digest}); err != nil {
		t.Fatal(err)
	}
	return dst
}

// content is the i-th of the contents that the tests use: some are equal.
func content(i, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(b[:size/2]) // cannot fail
	return b
}

func pad(b []byte) []byte { return append(b, make([]byte, padded(len(b))-len(b))...) }

func TestEqualUnitsOfAllSourcesAreStoredOnceAndReadBackEqual(t *testing.T) {
	const sources, each, distinct = 5, 200, 40
	s := newStore(t.Context(), t, sources)
	ids := make([][]ID, sources)
	var wg sync.WaitGroup
	for n := range sources {
		in := s.Intake()
		wg.Go(func() {
			for i := range each {
				what := (i + n) % distinct
				add, size := in.Small, 1+what*900
				if i%3 == 0 {
					add, size = in.Piece, 70_000+what*1000
				}
				if err := add(iotest.HalfReader(bytes.NewReader(content(what, size))), size); err != nil {
					t.Error(err)
				}
			}
			var err error
			if ids[n], err = in.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[string]ID{}
	for n := range sources {
		if len(ids[n]) != each {
			t.Fatalf("source %d: %d units", n, len(ids[n]))
		}
		for i, id := range ids[n] {
			what := (i + n) % distinct
			get, size, kind := s.Small, 1+what*900, "small"
			if i%3 == 0 {
				get, size, kind = s.Piece, 70_000+what*1000, "piece"
			}
			name := fmt.Sprint(kind, what)
			if before, ok := seen[name]; ok {
				if before != id {
					t.Fatalf("%s is stored as %d and %d", name, before, id)
				}
				continue
			}
			seen[name] = id
			u, err := get(id)
			if err != nil {
				t.Fatal(err)
			}
			want := pad(content(what, size))
			if u.Digest != sha256.Sum256(want) || !bytes.Equal(stored(t, s, u), want) {
				t.Fatalf("%s reads back differently", name)
			}
		}
	}
}

func TestFramesHoldTheirMembersInOrder(t *testing.T) {
	s := newStore(t.Context(), t, 1)
	in := s.Intake()
	for i := range 20 {
		if err := in.Small(bytes.NewReader(content(i, 500+i*200)), 500+i*200); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := in.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]int{{0}, {3, 4, 5, 6}, {19, 2, 11, 12, 0}} {
		var want []byte
		var members []ID
		for _, i := range order {
			want, members = append(want, pad(content(i, 500+i*200))...), append(members, ids[i])
		}
		f, err := s.Frame(members)
		if err != nil {
			t.Fatal(err)
		}
		u, err := f.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if u.Digest != sha256.Sum256(want) || !bytes.Equal(stored(t, s, u), want) {
			t.Errorf("frame of %v reads back differently", order)
		}
	}
}

func TestImpossibleUnitsAreRefused(t *testing.T) {
	s := newStore(t.Context(), t, 1)
	in := s.Intake()
	zeros := strings.NewReader(strings.Repeat("\x00", 1<<20))
	for _, err := range []error{in.Small(zeros, 0), in.Small(zeros, 64<<10+1), in.Piece(zeros, 0), in.Piece(zeros, 128<<10+1)} {
		if err == nil || !strings.Contains(err.Error(), "is not between") {
			t.Errorf("error is %v", err)
		}
	}
	if err := in.Small(strings.NewReader("short"), 6); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that ends early: %v", err)
	}
	if _, err := in.Close(); err != nil {
		t.Error(err)
	}
}

// TestACancelledStoreLetsNobodyWait has more sources than jobs, and one that has claimed a unit and never stores it.
func TestACancelledStoreLetsNobodyWait(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := newStore(ctx, t, 1)
	id, _ := s.small.claim([32]byte{1})
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	wg.Go(func() {
		_, err := s.Small(id)
		errs <- err
	})
	in := s.Intake()
	wg.Go(func() {
		for {
			if err := in.Piece(bytes.NewReader(content(1, 100_000)), 100_000); err != nil {
				errs <- err
				return
			}
		}
	})
	time.Sleep(20 * time.Millisecond)
	reason := errors.New("somebody pressed Ctrl-C")
	cancel(reason)
	wg.Wait()
	_, err := in.Close()
	for _, err := range []error{<-errs, <-errs, err} {
		if !errors.Is(err, reason) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	s := newStore(t.Context(), t, 1)
	real := s.spool.file
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	s.spool.file = full
	in := s.Intake()
	_ = in.Small(strings.NewReader("x"), 1) // a worker finds out, now or later
	if _, err := in.Close(); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "write temporary file") {
		t.Errorf("error is %v", err)
	}
	s.spool.file = real
}

func TestRunsOfNeighboursAreReadAtOnce(t *testing.T) {
	s := newStore(t.Context(), t, 1)
	for i, u := range []Unit{{Off: 0, Len: 4096}, {Off: 4096, Len: 8192}, {Off: 20480, Len: 4096}} {
		id, _ := s.small.claim([32]byte{byte(i)})
		s.small.set(id, u)
	}
	runs, err := (&job{members: []ID{0, 1, 2, 0}}).runs(s)
	want := []Unit{{Off: 0, Len: 12288}, {Off: 20480, Len: 4096}, {Off: 0, Len: 4096}}
	if err != nil || !slices.Equal(runs, want) {
		t.Errorf("got %+v, %v", runs, err)
	}
}
