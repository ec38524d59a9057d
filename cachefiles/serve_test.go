package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/ondemand"
)

// completed is what the log says of each READ that was answered to a kernel that is only played.
const completed = "read was given up by the kernel"

// TestNobodyTouchesADetachedBlob unmaps the blob's map, so whoever reads it still ends the test by SIGSEGV.
func TestNobodyTouchesADetachedBlob(t *testing.T) {
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprintf("blob closed before: %v", closed), func(t *testing.T) {
			tr, k, log := startFake(t, nil)
			img := newSilent(t, "image", mib)
			img.attach(t, tr)
			b := img.Blobs[0]
			_, answer := k.open(1, 1, b.ID())
			if want := fmt.Sprintf("copen 1,%d", b.Size()); answer != want {
				t.Fatalf("the OPEN is answered %q, want %q", answer, want)
			}
			k.read(2, 1, 0, blockSize)
			await.True(t, "a reader waits", func() bool { return img.source.Requests.Load() > 0 })

			if closed {
				b.Close()
			}
			detached := make(chan error, 1)
			go func() { detached <- tr.Detach(t.Context(), img.Image) }()
			if err := ends(t, "Detach, for a source that does not answer", detached); err != nil {
				t.Fatal(err)
			}
			b.Close()
			if err := unix.Munmap(img.raw); err != nil {
				t.Fatal(err)
			}
			await.True(t, "the reader is answered", func() bool { return log.count(completed) == 1 })

			k.read(3, 1, 4*blockSize, blockSize)
			await.True(t, "a late reader is answered", func() bool { return log.count(completed) == 2 })
			if n := log.count("level=ERROR"); n != 0 {
				t.Errorf("%d errors are logged", n)
			}
			k.send(4, opClose, 1, nil)
			await.True(t, "the object is closed", func() bool { return len(tr.openKeys()) == 0 })
		})
	}
}

// TestAnObjectIsServedWhateverBecameOfAnEarlierOne has the kernel close a blob's object and open another, and the first be bound once more after that, as when what made it ready was slow.
func TestAnObjectIsServedWhateverBecameOfAnEarlierOne(t *testing.T) {
	tr, k, log := startFake(t, nil)
	img := newSilent(t, "image", mib)
	img.release()
	img.attach(t, tr)
	b := img.Blobs[0]
	object := func(id uint32) *object {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.objects[id]
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	bound := func() bool { return b.AwaitBound(over) == nil }

	k.open(1, 1, b.ID())
	await.True(t, "the first object is bound", bound)
	earlier := object(1)
	k.send(2, opClose, 1, nil)
	await.True(t, "the first object is not bound any more", func() bool { return !bound() })
	if err := b.Prefetch(t.Context(), 0, b.Size()); !errors.Is(err, ondemand.ErrUnbound) || img.source.Requests.Load() > 0 {
		t.Errorf("with no object open, a prefetch made %d requests and ended with %v", img.source.Requests.Load(), err)
	}

	k.open(3, 2, b.ID())
	await.True(t, "the second object is bound", bound)
	b.Bind(earlier, newPresence(b.Map().Frames()))
	earlier.close()
	k.read(4, 2, 0, blockSize)
	await.True(t, "the reader is answered", func() bool { return log.count(completed) == 1 })
	if ok, err := object(2).has(0, blockSize); !ok || err != nil || log.count("level=ERROR") > 0 {
		t.Errorf("what was read is there: %v, %v; %d errors are logged", ok, err, log.count("level=ERROR"))
	}
	if !bound() {
		t.Error("the second object is not bound again")
	}
}

func TestALeaseEndsByCuttingItsUsersOff(t *testing.T) {
	l := newLease()
	entered, cut, leave := make(chan struct{}), make(chan error), make(chan struct{})
	go func() {
		_ = l.use(context.Background(), func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			cut <- context.Cause(ctx)
			<-leave
			return nil
		})
	}()
	<-entered
	ended := make(chan struct{})
	go func() {
		l.end()
		close(ended)
	}()
	if err := <-cut; !errors.Is(err, errDetached) {
		t.Errorf("the user was cut off with %v", err)
	}
	if err := l.use(t.Context(), func(context.Context) error { return nil }); !errors.Is(err, errDetached) {
		t.Errorf("a late user got %v", err)
	}
	select {
	case <-ended:
		t.Error("it ended before its user had left")
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	<-ended
}

// TestASilentSourceStopsNothingElse has more readers waiting than messages may be worked on.
func TestASilentSourceStopsNothingElse(t *testing.T) {
	const readers = maxMessages + 100
	tr, k, log := startFake(t, nil)
	one, two := newSilent(t, "one", readers*blockSize), newSilent(t, "two", mib)
	one.attach(t, tr)
	file, _ := k.open(1, 1, one.Blobs[0].ID())
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	there := one.Blobs[0].Size() - blockSize
	if _, err := f.WriteAt(make([]byte, blockSize), there); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(readers) {
		k.read(10+i, 1, uint64(i%readers/2)*blockSize, blockSize)
	}
	k.read(2, 1, uint64(there), blockSize)
	await.True(t, "what is there is read", func() bool { return log.count(completed) == 1 })
	two.attach(t, tr)
	_, answer := k.open(3, 2, two.Blobs[0].ID())
	if want := fmt.Sprintf("copen 3,%d", two.Blobs[0].Size()); answer != want {
		t.Errorf("the OPEN is answered %q, want %q", answer, want)
	}
	k.send(4, opClose, 2, nil)
	await.True(t, "the object is closed", func() bool { return len(tr.openKeys()) == 1 })
	await.True(t, "all READs are taken", func() bool { return tr.Reads() == readers+1 })
}

func TestARefusedKeyStartsAfreshWhenItIsAttached(t *testing.T) {
	tr, k, _ := startFake(t, nil)
	img := newSilent(t, "image", mib)
	for i, key := range []string{img.ID, img.Blobs[0].ID()} {
		if _, answer := k.open(uint32(i), uint32(i+1), key); answer != fmt.Sprintf("copen %d,-2", i) {
			t.Errorf("the OPEN of a stranger is answered %q", answer)
		}
	}
	img.attach(t, tr)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.refused) != 0 {
		t.Errorf("still slowed down: %v", tr.refused)
	}
}
