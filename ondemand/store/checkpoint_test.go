package store

import (
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"
)

// reopened returns the frames that are present when the blob is opened after a power cut.
func reopened(t *testing.T, s *Store, b *Blob) []int {
	t.Helper()
	abandon(s, b)
	volatile, _ := layoutFor(frames)
	patch(t, s, volatile+sessionBootID, []byte("another-boot"))
	again := blob(t, s)
	defer again.Close()
	return present(again)
}

// TestFramesForgottenDuringACheckpointStayForgotten forgets a frame while its bytes are being synced.
func TestFramesForgottenDuringACheckpointStayForgotten(t *testing.T) {
	s := open(t, t.TempDir())
	b := blob(t, s)
	put(t, b, 1, 2, 3)
	b.sync = func(int) error {
		b.sync = unix.Fdatasync
		return b.Forget(2)
	}
	checkpoint(t, b)
	if got, want := reopened(t, s, b), []int{1, 3}; !slices.Equal(got, want) {
		t.Errorf("present are %v, want %v", got, want)
	}
}

// TestFramesThatComeDuringACheckpointAreInTheNext puts a frame while others are being synced: it must not pass for durable, nor be forgotten by the next checkpoint.
func TestFramesThatComeDuringACheckpointAreInTheNext(t *testing.T) {
	for _, next := range []bool{false, true} {
		s := open(t, t.TempDir())
		b := blob(t, s)
		put(t, b, 1)
		b.sync = func(int) error {
			b.sync = unix.Fdatasync
			put(t, b, 2)
			return nil
		}
		checkpoint(t, b)
		want := []int{1}
		if next {
			checkpoint(t, b)
			want = []int{1, 2}
		}
		if got := reopened(t, s, b); !slices.Equal(got, want) {
			t.Errorf("present are %v, want %v", got, want)
		}
	}
}

// TestAFailedSyncMakesAbsentWhatItMayHaveLost: what was durable stays, and what comes later counts.
func TestAFailedSyncMakesAbsentWhatItMayHaveLost(t *testing.T) {
	s := open(t, t.TempDir())
	b := blob(t, s)
	put(t, b, 1)
	checkpoint(t, b)
	put(t, b, 2, other)
	b.sync = failing
	if err := b.Checkpoint(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if got, want := present(b), []int{1}; !slices.Equal(got, want) || b.Presence().Count() != 1 {
		t.Errorf("present are %v (count %d), want %v", got, b.Presence().Count(), want)
	}
	b.sync = unix.Fdatasync
	put(t, b, 3)
	checkpoint(t, b)
	if got, want := reopened(t, s, b), []int{1, 3}; !slices.Equal(got, want) {
		t.Errorf("after a power cut %v are present, want %v", got, want)
	}
}

// TestAFailedForgetIsTriedAgain: after the error the frame is absent for now, and the next write of the record makes it so for good.
func TestAFailedForgetIsTriedAgain(t *testing.T) {
	s := open(t, t.TempDir())
	b := blob(t, s)
	put(t, b, 1, 2)
	checkpoint(t, b)
	b.sync = failing
	if err := b.Forget(1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if b.Presence().Has(1) {
		t.Error("the frame is present")
	}
	b.sync = unix.Fdatasync
	if err := b.Forget(); err != nil {
		t.Fatal(err)
	}
	if got, want := reopened(t, s, b), []int{2}; !slices.Equal(got, want) {
		t.Errorf("present are %v, want %v", got, want)
	}
}

// TestCheckpointsAreMadeInTheBackground writes much, and waits for it to be durable.
func TestCheckpointsAreMadeInTheBackground(t *testing.T) {
	s := open(t, t.TempDir())
	b := blob(t, s)
	put(t, b, 1)
	b.unsynced.Store(checkpointBytes)
	put(t, b, 2) // too much now
	for saved := false; !saved; {
		b.mu.Lock()
		saved = b.saved > 0
		b.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	if got, want := reopened(t, s, b), []int{1, 2}; !slices.Equal(got, want) {
		t.Errorf("present are %v, want %v", got, want)
	}
}

// TestARecordIsOfItsFileOnly deletes a blob file that a predecessor's descriptor keeps alive. What the successor fetches into it must not pass for the content of a new file.
func TestARecordIsOfItsFileOnly(t *testing.T) {
	s := open(t, t.TempDir())
	b := blob(t, s)
	put(t, b, 1)
	fd, err := unix.FcntlInt(uintptr(b.Fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	abandon(s, b)
	if err := os.Remove(s.BlobPath(b.id)); err != nil {
		t.Fatal(err)
	}
	adopted, err := s.AdoptBlob(fd, b.id, frames*frameSize, frames)
	if err != nil {
		t.Fatal(err)
	}
	if got := present(adopted); got != nil {
		t.Errorf("%v are present in a file that nobody knows", got)
	}
	put(t, adopted, 2)
	if err := adopted.Close(); err != nil {
		t.Fatal(err)
	}
	if got := present(blob(t, s)); got != nil {
		t.Errorf("%v are present in a new file", got)
	}
}

// TestABlobIsSharedByWhoOpensIt opens a blob twice. It is closed when both are done with it, and cannot be removed before.
func TestABlobIsSharedByWhoOpensIt(t *testing.T) {
	s := open(t, t.TempDir())
	a, b := blob(t, s), blob(t, s)
	put(t, a, 1)
	if _, err := s.OpenBlob(a.id, frames*frameSize, frames-1); err == nil {
		t.Error("it could be opened as another blob")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if !b.Presence().Has(1) {
		t.Error("what one put the other does not have")
	}
	if err := s.RemoveBlob(b.id); !errors.Is(err, ErrOpen) {
		t.Errorf("removal of an open blob: got %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveBlob(b.id); err != nil {
		t.Fatal(err)
	}
	if kept, err := s.Blobs(); err != nil || len(kept) > 0 {
		t.Errorf("after its removal the store has %v, %v", kept, err)
	}
}

// TestUsageIsWhatIsOnTheDisk fills a blob and gives a part back.
func TestUsageIsWhatIsOnTheDisk(t *testing.T) {
	s := open(t, t.TempDir())
	b := blob(t, s)
	defer b.Close()
	allocated := func() int64 {
		checkpoint(t, b) // delayed allocation ends here
		kept, err := s.Blobs()
		if err != nil || len(kept) != 1 || kept[0].ID != b.id || !kept[0].Open || kept[0].Used.IsZero() {
			t.Fatalf("got %v, %v", kept, err)
		}
		return kept[0].Allocated
	}
	empty := allocated()
	for i := range 512 {
		put(t, b, i)
	}
	full := allocated()
	if want := empty + 512*frameSize; full < want || full > want+64<<10 {
		t.Errorf("%d bytes are allocated, want %d", full, want)
	}
	var list []int
	for i := range 256 {
		list = append(list, i)
	}
	if err := b.Forget(list...); err != nil {
		t.Fatal(err)
	}
	if err := b.Punch(0, 256*frameSize); err != nil {
		t.Fatal(err)
	}
	if got, want := allocated(), full-256*frameSize; got > want+64<<10 {
		t.Errorf("%d bytes are allocated, want %d", got, want)
	}
	if n, err := s.Usage(); err != nil || n < 256*frameSize {
		t.Errorf("usage is %d, %v", n, err)
	}
}

// TestInspectionIsNoUse sets the time of a blob's last use back and inspects it: then it is as old as before. Opened, it is not.
func TestInspectionIsNoUse(t *testing.T) {
	s := open(t, t.TempDir())
	b := blob(t, s)
	put(t, b, 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(s.recordPath(b.id), old, old); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		open func(string, int64, int) (*Blob, error)
		old  bool
	}{{s.InspectBlob, true}, {s.OpenBlob, false}, {s.InspectBlob, false}} {
		b, err := c.open(b.id, frames*frameSize, frames)
		if err != nil {
			t.Fatal(err)
		}
		put(t, b, 2)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(s.recordPath(b.id))
		if err != nil {
			t.Fatal(err)
		}
		if st.ModTime().Equal(old) != c.old {
			t.Errorf("last use: %v", st.ModTime())
		}
	}
}

// TestAHeldDescriptorIsOfItsFirstSession has a successor come to the store through another mount of its file system, as one does whose service manager gives it a mount namespace. What it is handed by
// its predecessor's keeper proves that the kernel's cache is still the same; what it opens does not.
func TestAHeldDescriptorIsOfItsFirstSession(t *testing.T) {
	require.Root(t)
	for _, held := range []bool{true, false} {
		root, elsewhere := t.TempDir(), t.TempDir()
		s := open(t, root)
		b := blob(t, s)
		put(t, b, 1)
		checkpoint(t, b)
		put(t, b, 2)
		fd, err := unix.FcntlInt(uintptr(b.Fd()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		abandon(s, b)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(root, elsewhere, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(elsewhere, unix.MNT_DETACH) })
		s = open(t, elsewhere)
		want := []int{1}
		if held {
			want = []int{1, 2}
			b, err = s.AdoptBlob(fd, b.id, frames*frameSize, frames)
		} else {
			b, err = s.OpenBlob(b.id, frames*frameSize, frames)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := present(b); !slices.Equal(got, want) {
			t.Errorf("held %v: present are %v, want %v", held, got, want)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}
