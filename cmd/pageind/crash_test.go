package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestADaemonKilledAnywhereLeavesNothing pulls images that share layers, runs a container of each and removes all again, many times, while the daemon is killed at random moments. In the end
// there is no directory, mount or note of what was begun and not finished. PAGEIN_CRASHES is how many times it is done for each image.
func TestADaemonKilledAnywhereLeavesNothing(t *testing.T) {
	beside(t)
	c := newCrowd(newRuntimeLab(t))
	images := []string{c.familyImage(0), c.familyImage(1), c.familyImage(9)} // the last of them is an ordinary one
	before := c.idleRuntime(images[0])
	times := number(t, "PAGEIN_CRASHES", 5)
	var numbers atomic.Int64
	kills := c.under(false, func() error {
		var g errgroup.Group
		for _, image := range images {
			g.Go(func() error {
				for range times {
					if err := errors.Join(c.fetch(image), c.once(image, &numbers), c.forget(image)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return g.Wait()
	})
	c.idleRuntime(images[0]) // containerd does not ask again for what it could not remove while nobody was there, until it removes something else
	c.nothingLeft(before)
	t.Logf("measured: %d pulls, starts and removals; pageind was killed %d times meanwhile, and calls tried again %d times", times*len(images), kills, c.again)
}

// once runs a container that verifies everything.
func (c *crowd) once(image string, numbers *atomic.Int64) error {
	return c.insist(func() error {
		id := fmt.Sprintf("once-%d", numbers.Add(1))
		_, err := c.Try("run", "--rm", "--snapshotter", "pagein", image, id, "/bin/busybox", "sha256sum", "-c", "-s", "/sums")
		if err != nil {
			err = errors.Join(err, c.insist(func() error { return c.discard(id) }))
		}
		return err
	})
}

// forget removes an image.
func (c *crowd) forget(image string) error {
	return c.insist(func() error {
		_, err := c.Try("images", "rm", "--sync", image)
		return err
	})
}
