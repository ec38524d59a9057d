package fanotify

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/ondemand/store"
)

// TestEvictingUnderReadersShowsNoWrongByte evicts without a pause while readers, in another process, compare all that they read, and read nothing from the cache.
// PAGEIN_EVICT_TIME is how long to do that.
func TestEvictingUnderReadersShowsNoWrongByte(t *testing.T) {
	long := 3 * time.Second
	if s := os.Getenv("PAGEIN_EVICT_TIME"); s != "" {
		var err error
		if long, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 300_000, 70_000, 3<<20, 2<<20, 5000, 64<<10, 48<<20, 48<<20)
	tr.track = true
	for _, unread := range []string{"f6", "f7"} { // so the blobs are never complete, and their marks stay
		if err := os.Remove(filepath.Join(tr.source, unread)); err != nil {
			t.Fatal(err)
		}
	}
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	mount(t, spec, mnt)

	t.Setenv(coldEnv, "1")
	var stop atomic.Bool
	evicted := make(chan int64)
	go func() {
		var total int64
		for !stop.Load() {
			for _, b := range d.image.Blobs {
				n, err := d.Evict(b, 512<<10)
				if err != nil {
					t.Error(err)
				}
				total += n
			}
		}
		evicted <- total
	}()
	const ranges = 20
	rounds := 0
	for end := time.Now().Add(long); time.Now().Before(end) && !t.Failed(); rounds++ {
		tr.verify(t, mnt, 8, ranges)
	}
	stop.Store(true)
	total := <-evicted
	t.Logf("%d ranges read and compared, %d MiB evicted meanwhile, %d MiB fetched", rounds*8*ranges*6, total>>20, (tr.origins[0].Bytes.Load()+tr.origins[1].Bytes.Load())>>20)
	if total < 16<<20 {
		t.Errorf("only %d bytes were evicted", total)
	}
	if _, untracked := d.Fixed(); len(untracked) > 0 {
		t.Errorf("the reads of these blobs are not tracked any more: %v", untracked)
	}
}

// TestACompleteBlobIsNotEvicted: nobody would notice that its bytes are gone.
func TestACompleteBlobIsNotEvicted(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 300_000, 2<<20)
	tr.track = true
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	mount(t, spec, mnt)
	b := d.image.Blobs[0]
	if err := b.Fill(t.Context(), 0, b.Size()); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the mark is dropped", func() bool {
		m := d.blobs[b.ID()]
		m.evicting.Lock()
		defer m.evicting.Unlock()
		return m.unmarked
	})
	if n, err := d.Evict(b, b.Size()); n != 0 || err != nil {
		t.Errorf("%d bytes were evicted, %v", n, err)
	}
	tr.verify(t, mnt, 2, 1)
}

// TestASuccessorDoesNotEvictWhatWasComplete: what was mounted after the mark was dropped raises no events, be there a mark again or not.
func TestASuccessorDoesNotEvictWhatWasComplete(t *testing.T) {
	for name, damage := range map[string]func(*store.Blob) error{
		"still complete": func(*store.Blob) error { return nil },
		"in part absent": func(b *store.Blob) error { return b.Forget(0) }, // found damaged, say
	} {
		t.Run(name, func(t *testing.T) {
			root, mnt, h := environment(t)
			tr := newTree(t, t.TempDir(), 300_000, 2<<20)
			tr.track = true
			d, spec := start(t, tr, root, h, nil)
			for _, b := range d.image.Blobs {
				if err := b.Fill(t.Context(), 0, b.Size()); err != nil {
					t.Fatal(err)
				}
				await.True(t, "the mark is dropped", func() bool {
					m := d.blobs[b.ID()]
					m.evicting.Lock()
					defer m.evicting.Unlock()
					return m.unmarked
				})
			}
			mount(t, spec, mnt) // the kernel opens files that are not marked
			d.stop()
			change(t, tr, root, damage)
			d, _ = start(t, tr, root, h, h.Take(t))
			defer d.stop()
			for range 2 {
				for _, b := range d.image.Blobs {
					if n, err := d.Evict(b, b.Size()); n != 0 || err != nil {
						t.Errorf("%d bytes were evicted, %v", n, err)
					}
				}
			}
			tr.verify(t, mnt, 2, 1)
		})
	}
}

// change does something to the tree's blobs in the store while no daemon has it.
func change(t *testing.T, tr *tree, root string, do func(*store.Blob) error) {
	t.Helper()
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, m := range tr.maps {
		b, err := s.OpenBlob(m.ID(), m.Size(), m.Frames())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(do(b), b.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestWhatIsNotTrackedIsNotEvicted: without the kernel's word that reads are over there is no safe moment.
func TestWhatIsNotTrackedIsNotEvicted(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 300_000, 9<<20)
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	mount(t, spec, mnt)
	b := d.image.Blobs[1]
	if err := b.Fill(t.Context(), 0, 4096); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Evict(b, b.Size()); n != 0 || err != nil {
		t.Errorf("%d bytes were evicted, %v", n, err)
	}
}

// TestAnEvictedBlobBecomesCompleteAgain evicts, has all fetched again, and stops the daemon: a mark that was left would block the readers.
func TestAnEvictedBlobBecomesCompleteAgain(t *testing.T) {
	root, mnt, h := environment(t)
	tr := newTree(t, t.TempDir(), 24<<20, 100)
	tr.track = true
	d, spec := start(t, tr, root, h, nil)
	defer d.stop()
	mount(t, spec, mnt)
	b := d.image.Blobs[0]
	if err := b.Fill(t.Context(), b.Size()/2, 4096); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Evict(b, b.Size()); err != nil || n == 0 {
		t.Fatalf("%d bytes were evicted, %v", n, err)
	}
	d.complete(t)
	d.stop()
	tr.verifyUnserved(t, mnt)
}

// TestEvictionEndsWithTheAttachment has a blob detached, and its group's journal unmapped, at a moment when its eviction is about to begin.
func TestEvictionEndsWithTheAttachment(t *testing.T) {
	root, _, h := environment(t)
	tr := newTree(t, t.TempDir(), 9<<20, 100)
	tr.track = true
	f, img, s := successor(t, tr, root, h, nil)
	defer func() {
		if err := errors.Join(f.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := f.Attach(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	b := img.Blobs[0]
	m := f.blobs[b.ID()]
	m.evicting.Lock()
	evicted := make(chan error, 1)
	go func() {
		n, err := f.Evict(b, b.Size())
		if n != 0 {
			t.Errorf("%d bytes were evicted", n)
		}
		evicted <- err
	}()
	await.True(t, "the eviction is under way", func() bool {
		all := make([]byte, 1<<20)
		for one := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
			if strings.Contains(one, "[sync.Mutex.Lock") && strings.Contains(one, "(*Transport).Evict(") {
				return true
			}
		}
		return false
	})
	for _, b := range img.Blobs {
		b.Close()
	}
	if err := f.Detach(t.Context(), img); err != nil {
		t.Error(err)
	}
	m.evicting.Unlock()
	if err := <-evicted; err != nil {
		t.Error(err)
	}
}

// TestASuccessorKnowsTheReadsUnderWay writes a table of reads and takes it up again.
func TestASuccessorKnowsTheReadsUnderWay(t *testing.T) {
	before, err := newJournal(true)
	if err != nil {
		t.Fatal(err)
	}
	self, gone := int32(unix.Gettid()), int32(1<<22) // the largest number of a thread is one less
	blobs := [][32]byte{{1}, {2}}
	before.reads.begin(self, &blobs[0], 8192, 4096)
	before.reads.begin(gone, &blobs[0], 0, 4096)
	fd, err := unix.Dup(before.fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := before.close(); err != nil {
		t.Fatal(err)
	}
	after, err := adoptJournal(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer after.close()
	for _, c := range []struct {
		name   string
		blob   int
		off, n int64
		want   bool
	}{
		{"it is being read", 0, 8192, 4096, false},
		{"it is within what is being read", 0, 10000, 1, false},
		{"what is being read is within it", 0, 0, 1 << 20, false},
		{"it is before", 0, 4096, 4096, true},
		{"it is behind", 0, 12288, 4096, true},
		{"its reader is no more", 0, 0, 4096, true},
		{"another blob is being read", 1, 8192, 4096, true},
	} {
		if got := after.reads.idle(&blobs[c.blob], c.off, c.n); got != c.want {
			t.Errorf("%s: idle is %v", c.name, got)
		}
	}
	after.reads.begin(self, &[32]byte{}, 0, 1<<62)
	if after.reads.idle(&blobs[1], 1<<40, 1) {
		t.Error("a read of an unknown blob does not count for all of them")
	}
	after.reads.end(self)
	if !after.reads.idle(&blobs[0], 0, 1<<20) {
		t.Error("a read that is over still counts")
	}
	after.reads.begin(0, &blobs[0], 0, 1)
	if after.reads.idle(&blobs[1], 0, 1) {
		t.Error("a thread without a number reads, and something is idle")
	}
}

// TestThreadsOfAnotherPIDNamespaceAreNotTakenForOthers: their numbers may be those of other threads here, or of none.
func TestThreadsOfAnotherPIDNamespaceAreNotTakenForOthers(t *testing.T) {
	j, err := newJournal(true)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	for _, elsewhere := range []bool{false, true} {
		if elsewhere {
			j.mem[journalPIDs]++
		}
		fd, err := unix.Dup(j.fd)
		if err != nil {
			t.Fatal(err)
		}
		after, err := adoptJournal(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer after.close()
		if after.reads.tracked() == elsewhere {
			t.Errorf("of another namespace: %v, tracked: %v", elsewhere, after.reads.tracked())
		}
	}
}

// TestMoreReadersThanTheTableHoldsStopEviction, and nothing else.
func TestMoreReadersThanTheTableHoldsStopEviction(t *testing.T) {
	j, err := newJournal(true)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	id := [32]byte{1}
	for i := range int32(3 * readRecords) { // threads that are no more make room
		j.reads.begin(1<<22+i, &id, 0, 1)
	}
	if !j.reads.tracked() {
		t.Error("threads that are no more take room")
	}
	j.reads.ended = func(int32) bool { return false }
	for i := range int32(readRecords + 1) {
		j.reads.begin(1<<22+i, &id, 0, 1)
	}
	if j.reads.tracked() || j.reads.idle(&id, 4096, 1) {
		t.Error("a read is in no table, and something is idle")
	}
}
