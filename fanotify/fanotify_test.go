package fanotify

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/transporttest"
)

func TestMain(m *testing.M) {
	kmount.Init()
	if os.Getenv(readerEnv) != "" {
		os.Exit(reader())
	}
	os.Exit(m.Run())
}

// TestLazyMountReadsTheSource mounts over empty blob files and reads everything in random order with 16 readers, cold, warm, and remounted.
func TestLazyMountReadsTheSource(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 1, 4096, 5000, 70_000, 64<<10, 3<<20, 1<<20, 9<<20+5)
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	mount(t, spec, mnt)
	tr.verify(t, mnt, 16, 4)
	d.complete(t)
	for i, o := range tr.origins {
		if o.Bytes.Load() != o.Size() {
			t.Errorf("blob %d: %d bytes were read of an object of %d", i, o.Bytes.Load(), o.Size())
		}
	}
	erofstest.DropCaches(t)
	tr.verify(t, mnt, 4, 1)

	if err := kmount.Unmount(mnt, 0); err != nil {
		t.Fatal(err)
	}
	for _, b := range d.image.Blobs {
		b.Close()
	}
	if err := d.Detach(t.Context(), d.image); err != nil {
		t.Fatal(err)
	}
	if len(h.Held()) != 0 {
		t.Errorf("still held after the last image is gone: %v", h.Held())
	}
	d.stop()
	again, spec := start(t, tr, root, h, nil)
	defer again.stop()
	if !again.image.Blobs[0].Complete() {
		t.Error("presence did not survive a clean restart")
	}
	mount(t, spec, mnt)
	tr.verify(t, mnt, 2, 1)
	for i, o := range tr.origins {
		if o.Bytes.Load() != o.Size() {
			t.Errorf("blob %d was fetched again", i)
		}
	}
}

// TestACompleteBlobRaisesNoEvents stops the daemon once all is present: a mark that were left would block the readers.
func TestACompleteBlobRaisesNoEvents(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 300_000, 2<<20)
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	mount(t, spec, mnt)
	d.complete(t)
	d.stop()
	tr.verifyUnserved(t, mnt)
}

// verifyUnserved reads everything of an image that is complete while no daemon serves it.
func (tr *tree) verifyUnserved(t *testing.T, mnt string) {
	t.Helper()
	done := make(chan bool)
	go func() { tr.verify(t, mnt, 2, 1); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("readers wait although all bytes are there")
	}
}

// TestAFailedReadHeals makes the origin fail: the reader gets EIO, nothing wrong is cached, and the next read succeeds.
func TestAFailedReadHeals(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 300_000, 300_000)
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	mount(t, spec, mnt)
	tr.origins[0].Broken.Store(true)
	if _, err := os.ReadFile(filepath.Join(mnt, "f0")); !errors.Is(err, unix.EIO) {
		t.Errorf("got %v, want %v", err, unix.EIO)
	}
	tr.origins[0].Broken.Store(false)
	tr.verify(t, mnt, 2, 2)
}

// TestASuccessorAnswersWhatWasAsked stops a daemon while readers wait for it; its successor answers them, and new ones, in any order.
func TestASuccessorAnswersWhatWasAsked(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 3<<20, 3<<20, 200_000, 100_000)
	first, spec := start(t, tr, root, h, nil)
	defer first.stop()
	mount(t, spec, mnt)

	release := transporttest.HoldUp(tr.origins...)
	var readers sync.WaitGroup
	for r := range 8 {
		readers.Go(func() {
			name := fmt.Sprintf("f%d", r%4)
			got, err := os.ReadFile(filepath.Join(mnt, name))
			if err != nil || !bytes.Equal(got, tr.files[name]) {
				t.Errorf("%s: wrong bytes or error %v", name, err)
			}
		})
	}
	await.True(t, "events are in the journal", func() bool { return liveSlots(first.Transport) >= 4 })
	first.stop()

	release()
	second, _ := start(t, tr, root, h, h.Take(t))
	defer second.stop()
	readers.Wait()
	await.True(t, "the journal is empty", func() bool { return liveSlots(second.Transport) == 0 })
	tr.verify(t, mnt, 4, 1)
}

// TestAnEventWithoutANameIsFilledEverywhere takes the blob's name off a waiting event, as if the daemon had died just after the read.
func TestAnEventWithoutANameIsFilledEverywhere(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 3<<20, 100)
	first, spec := start(t, tr, root, h, nil)
	defer first.stop()
	mount(t, spec, mnt)
	release := transporttest.HoldUp(tr.origins[0])
	read := make(chan error, 1)
	go func() {
		got, err := os.ReadFile(filepath.Join(mnt, "f0"))
		if err == nil && !bytes.Equal(got, tr.files["f0"]) {
			err = errors.New("wrong bytes")
		}
		read <- err
	}()
	await.True(t, "the event is in the journal", func() bool { return liveSlots(first.Transport) == 1 })
	for _, g := range first.groups {
		for i := range slots {
			if s := g.journal.slot(i); s.live() {
				clear(s[slotBlob:])
			}
		}
	}
	first.stop()
	release()
	second, _ := start(t, tr, root, h, h.Take(t))
	defer second.stop()
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// TestAStrangersWriteIsDenied has somebody else try to write to, and to truncate, a marked blob file.
func TestAStrangersWriteIsDenied(t *testing.T) {
	root, _, h := environment(t)
	tr := newTree(t, t.TempDir(), 300_000, 100)
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	if err := os.Truncate(spec.Devices[0], 0); err == nil {
		t.Error("a marked blob file was truncated")
	}
}

func liveSlots(t *Transport) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.groups {
		for i := range slots {
			if g.journal.slot(i).live() {
				n++
			}
		}
	}
	return n
}

// refusing is a holder that has gone away.
type refusing struct{ *transporttest.Holder }

func (refusing) Hold(string, int) error { return errors.New("nobody holds anything") }

// TestWithoutAHolderNothingIsMarked has no process that would keep the descriptors: then there is no mount to make, and the file can be read as ever.
func TestWithoutAHolderNothingIsMarked(t *testing.T) {
	root, _, h := environment(t)
	tr := newTree(t, t.TempDir(), 300_000, 100)
	f, img, s := successor(t, tr, root, h, nil)
	f.cfg.Holder = refusing{h}
	if _, err := f.Attach(t.Context(), img); err == nil || !strings.Contains(err.Error(), "nobody holds anything") {
		t.Errorf("Attach: %v", err)
	}
	if _, err := os.ReadFile(s.BlobPath(tr.maps[0].ID())); err != nil {
		t.Errorf("the blob file cannot be read, as if it were marked: %v", err)
	}
	if err := errors.Join(f.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}
