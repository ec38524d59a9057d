package main

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/cutdisk"
	"github.com/pagein/pagein/internal/treetest"
)

// TestPowerCutsUnderALiveDaemon cuts the power of the store's disk while an image is read for the first time, and when all of it has been. What each cut leaves must be sound, and what was durable is not
// fetched again.
func TestPowerCutsUnderALiveDaemon(t *testing.T) {
	onHost(t)
	beside(t)
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			beside(t)
			d := cutdisk.New(t, fstype)
			l := newLab(t)
			l.root = filepath.Join(d.Dir, "root")
			tree := l.bigFiles("a", "b", "c", "d", "e", "f")
			ref := l.layout(tree)
			l.start()
			target := l.mount(ref, "image")

			var reading sync.WaitGroup
			reading.Go(func() { treetest.Compare(t, tree, target) })
			for seed := range 4 {
				c := d.Cut(t, uint64(seed))
				c.Mount()
				if r := l.check(filepath.Join(c.Dir, "root")); r.Problems > 0 {
					t.Errorf("cut %d, %d writes unflushed: %+v", seed, c.Cached, r)
				}
				c.Close()
			}
			reading.Wait()
			l.readAll(tree, target)
			time.Sleep(2 * checkpointInterval)

			c := d.Cut(t, 99)
			c.Mount()
			t.Cleanup(c.Close)
			after := newLab(t)
			after.root = filepath.Join(c.Dir, "root")
			after.start()
			after.readAll(tree, after.mount(ref, "again"))
			if n := after.status().Totals.BackendBytes; n != 0 {
				t.Errorf("%d bytes that had been on the disk for long were fetched again", n)
			}
			if r := after.check(); r.Problems > 0 || r.Frames == 0 {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// checkpointInterval is how long the store takes to make durable what is present.
const checkpointInterval = 5 * time.Second
