package main

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/profile"
)

// kinds are those of what went.
func kinds(gone []control.Evicted) (all []string) {
	for _, e := range gone {
		all = append(all, e.Kind)
	}
	slices.Sort(all)
	return all
}

// TestHotDataIsEvictedAsTheRestOfItsImage has an image and one that was made of it with a hot blob, which share all others: only what nobody has mounted goes, and what has gone is fetched again.
func TestHotDataIsEvictedAsTheRestOfItsImage(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	l.start()
	tree := l.bigFiles("a", "b")
	ref := l.layout(tree)
	hot := ref + "-hot"
	l.pagein("optimize", "--profile", l.profileOf(profile.Entry{Path: "/a", Off: 1 << 20, Len: 1 << 20}), ref, hot)

	both := []string{"blob", "blob", "meta"}
	l.used(hot, tree, "first")
	if gone := l.gc(); !slices.Equal(kinds(gone.Evicted), both) || gone.Bytes < 6<<20 {
		t.Errorf("of an optimized image that nobody has mounted, %+v goes", gone)
	}

	l.used(ref, tree, "older")
	time.Sleep(10 * time.Millisecond) // times of files are coarse
	target := l.mount(hot, "hot")
	l.idle()
	l.unused(target)
	if gone := l.gc("--free", "1B"); !slices.Equal(kinds(gone.Evicted), []string{"blob"}) || gone.Bytes < 6<<20 {
		t.Errorf("%+v goes first, want what the image was made of", gone)
	}
	l.used(hot, tree, "again")

	base := l.mount(ref, "base")
	l.readAll(tree, base)
	if gone := l.gc(); !slices.Equal(kinds(gone.Evicted), []string{"blob", "meta"}) || gone.Bytes > 2<<20 {
		t.Errorf("while the image that it was made of is mounted, %+v goes", gone)
	}
	target = l.mount(hot, "beside")
	l.readAll(tree, target)
	l.readAll(tree, base)
	l.unused(base)
	if gone := l.gc(); !slices.Equal(kinds(gone.Evicted), []string{"meta"}) {
		t.Errorf("while the optimized image is mounted, %+v goes", gone)
	}
	received := l.status().Totals.BackendBytes
	l.readAll(tree, target)
	if now := l.status().Totals.BackendBytes; now != received {
		t.Errorf("%d bytes of what is mounted had to be fetched again", now-received)
	}
	l.unused(target)
	if gone := l.gc(); !slices.Equal(kinds(gone.Evicted), both) {
		t.Errorf("of an optimized image that nobody has mounted any more, %+v goes", gone)
	}
	l.used(hot, tree, "last")
}

// TestWhatIsEvictedBesideHotDataIsRead has ranges go of an optimized image that is mounted: whichever blob has lost them, all bytes are right, before the daemon is started anew and after, and when the image is mounted again.
func TestWhatIsEvictedBesideHotDataIsRead(t *testing.T) {
	beside(t)
	onHost(t)
	l := newLab(t)
	config := "cache-high = '5MiB'\ncache-low = '2MiB'\nevict-mounted-ranges = true\n"
	l.startWith(config)
	tree := l.bigFiles("a", "b")
	l.randomFile(filepath.Join(tree, "unread"), 32<<20) // more than is read ahead, so the image is never complete
	ref := l.layout(tree)
	l.pagein("optimize", "--profile", l.profileOf(profile.Entry{Path: "/a", Len: 2 << 20}), ref, ref+"-hot")
	target := l.mount(ref+"-hot", "hot")
	readAndEvicted := func() {
		t.Helper()
		before := l.status().Cache.Evicted["watermark"]
		for range 3 {
			for _, name := range []string{"a", "b"} {
				if err := compareCold(filepath.Join(tree, name), filepath.Join(target, name)); err != nil {
					t.Error(err)
				}
			}
		}
		l.waitFor("ranges to be evicted", func() bool { return l.status().Cache.Evicted["watermark"] > before })
	}
	readAndEvicted()
	l.stop(unix.SIGKILL)
	l.startWith(config)
	readAndEvicted()
	l.unused(target)
	l.pagein("mount", ref+"-hot", target)
	readAndEvicted()
	if s := l.status(); s.Totals.FailedReads > 0 {
		t.Errorf("%d reads failed", s.Totals.FailedReads)
	}
}
