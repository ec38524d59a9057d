package fanotify

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/transporttest"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
)

// interrupted mounts a tree, has a reader wait for a blob that does not come, and stops the daemon.
func interrupted(t *testing.T) (tr *tree, root string, h *transporttest.Holder, read chan error) {
	t.Helper()
	root, mnt, h := environment(t)
	tr = newTree(t, t.TempDir(), 3<<20, 300_000)
	first, spec := start(t, tr, root, h, nil)
	mount(t, spec, mnt)
	release := transporttest.HoldUp(tr.origins[0])
	read = make(chan error, 1)
	go func() {
		got, err := os.ReadFile(filepath.Join(mnt, "f0"))
		if err == nil && !bytes.Equal(got, tr.files["f0"]) {
			err = errors.New("wrong bytes")
		}
		read <- err
	}()
	await.True(t, "the event is in the journal", func() bool { return liveSlots(first.Transport) == 1 })
	first.stop()
	release()
	return tr, root, h, read
}

// TestAFailedAdoptionLosesNothing makes the second blob's file unusable for one successor: it must leave the first one's mark, and the waiting reader, to the next.
func TestAFailedAdoptionLosesNothing(t *testing.T) {
	tr, root, h, read := interrupted(t)
	record := filepath.Join(root, "blobs", tr.maps[1].ID()+".present")
	if err := errors.Join(os.Rename(record, record+".away"), os.Mkdir(record, 0o755)); err != nil {
		t.Fatal(err)
	}
	held := h.Held()
	f, img, s := successor(t, tr, root, h, h.Take(t))
	if _, err := f.Attach(t.Context(), img); err == nil || errors.Is(err, ondemand.ErrUnguarded) {
		t.Errorf("Attach: %v, want an error about the record", err)
	}
	if !maps.Equal(held, h.Held()) {
		t.Errorf("held were %v, now %v", held, h.Held())
	}
	if err := errors.Join(f.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-read:
		t.Errorf("the reader did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := errors.Join(os.Remove(record), os.Rename(record+".away", record)); err != nil {
		t.Fatal(err)
	}
	second, _ := start(t, tr, root, h, h.Take(t))
	defer second.stop()
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// TestAMountWhoseGuardIsIncompleteIsReported takes away what a keeper that died in the middle of a handover would not have.
func TestAMountWhoseGuardIsIncompleteIsReported(t *testing.T) {
	for _, lost := range []string{groupPrefix, journalPrefix, blobPrefix} {
		t.Run(lost, func(t *testing.T) {
			tr, root, h, _ := interrupted(t)
			held := h.Take(t)
			maps.DeleteFunc(held, func(name string, fd int) bool { return strings.HasPrefix(name, lost) && unix.Close(fd) == nil })
			f, img, s := successor(t, tr, root, h, held)
			if _, err := f.Attach(t.Context(), img); !errors.Is(err, ondemand.ErrUnguarded) {
				t.Errorf("Attach: %v, want %v", err, ondemand.ErrUnguarded)
			}
			if err := errors.Join(f.Close(), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMarksOfALostImageStay has an image that could not be taken up, and another that shares a blob with it come and go: the lost one's readers get errors, not
// zeros.
func TestMarksOfALostImageStay(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 3<<20, 300_000)
	first, spec := start(t, tr, root, h, nil)
	mount(t, spec, mnt)
	first.stop()
	record := filepath.Join(root, "blobs", tr.maps[1].ID()+".present")
	if err := errors.Join(os.Remove(record), os.Mkdir(record, 0o755)); err != nil {
		t.Fatal(err)
	}
	f, img, s := successor(t, tr, root, h, h.Take(t))
	if _, err := f.Attach(t.Context(), img); err == nil {
		t.Fatal("attached although a record cannot be read")
	}
	serve(t, f, s)
	fails := func(when string) {
		t.Helper()
		if _, err := os.ReadFile(filepath.Join(mnt, "f0")); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: got %v, want %v", when, err, unix.EIO)
		}
	}
	fails("lost")
	other := &ondemand.Image{ID: strings.Repeat("ab", 32), MetaPath: tr.meta, MetaSize: tr.size}
	e, err := ondemand.New(slog.New(slog.DiscardHandler), ondemand.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Blob(tr.maps[0], []backend.Object{tr.origins[0]})
	if err != nil {
		t.Fatal(err)
	}
	other.Blobs = []*ondemand.Blob{b}
	if _, err := f.Attach(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := f.Detach(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	fails("after another image with its blob")
}

// TestABlobThatNobodyClaimsLosesItsMark has a daemon killed after it marked a blob and before the image was mounted. The blob's group stays, for the sake of another one in it.
func TestABlobThatNobodyClaimsLosesItsMark(t *testing.T) {
	root, _, h := environment(t)
	var tr *tree
	for size := 1; tr == nil || groupOf(tr.maps[0].ID()) != groupOf(tr.maps[1].ID()); size++ {
		tr = newTree(t, t.TempDir(), size, 1)
	}
	first, _ := start(t, tr, root, h, nil)
	first.stop()

	f, img, s := successor(t, tr, root, h, h.Take(t))
	other := &ondemand.Image{ID: strings.Repeat("ab", 32), MetaPath: tr.meta, MetaSize: tr.size, Blobs: img.Blobs[:1]}
	img.Blobs = img.Blobs[1:]
	if _, err := f.Attach(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	if err := f.ReleaseUnclaimed(); err != nil {
		t.Fatal(err)
	}
	serve(t, f, s)
	for i, want := range []bool{false, true} {
		var st unix.Stat_t
		if err := unix.Stat(s.BlobPath(tr.maps[i].ID()), &st); err != nil {
			t.Fatal(err)
		}
		if marked, err := f.groups[groupOf(tr.maps[i].ID())].marked(inode{dev: st.Dev, ino: st.Ino}); marked != want || err != nil {
			t.Fatalf("blob %d is marked: %v, %v, want %v", i, marked, err, want)
		}
	}
	await.True(t, "events are served", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !f.taking
	})
	if _, err := f.Attach(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := other.Blobs[0].Fill(t.Context(), 0, other.Blobs[0].Size()); err != nil { // which would wait for itself
		t.Error(err)
	}
	for _, b := range slices.Concat(img.Blobs, other.Blobs) {
		b.Close()
	}
}
