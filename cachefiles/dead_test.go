package cachefiles

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/transporttest"
	"github.com/pagein/pagein/ondemand"
)

// checkDead has the image, the last one of a dead cache, detached, and checks that the cache is let go with it and not before.
func checkDead(t *testing.T, tr *Transport, h *transporttest.Holder, log *lines, img, other *silent) {
	t.Helper()
	if _, err := tr.Attach(t.Context(), other.Image); !errors.Is(err, ErrDead) {
		t.Errorf("attaching to a dead cache: %v, want %v", err, ErrDead)
	}
	if n := log.count(deadAdvice); n != 1 {
		t.Errorf("what to do is said %d times", n)
	}
	if len(h.Held()) != 1 {
		t.Error("the device is let go while an image is attached")
	}
	if err := tr.Detach(t.Context(), img.Image); err != nil {
		t.Error(err)
	}
	if len(h.Held()) != 0 || tr.dev != nil {
		t.Errorf("the device is not let go: the holder has %v, the transport %v", h.Held(), tr.dev)
	}
	if _, err := tr.Attach(t.Context(), other.Image); errors.Is(err, ErrDead) {
		t.Errorf("a new cache is not tried: %v", err)
	}
}

func TestADeadCacheDoesNotEndTheDaemon(t *testing.T) {
	h := transporttest.NewHolder(t, 0)
	tr, k, log := startFake(t, h)
	img := newSilent(t, "image", mib)
	img.attach(t, tr)
	k.open(1, 1, img.Blobs[0].ID())
	k.read(2, 1, 0, blockSize)
	await.True(t, "a reader waits", func() bool { return img.source.Requests.Load() > 0 })
	kill(t, tr, k.idle)
	checkDead(t, tr, h, log, img, newSilent(t, "other", mib))
	if keys := tr.openKeys(); len(keys) != 0 {
		t.Errorf("still open: %v", keys)
	}
}

func TestADeadCacheOfAPredecessorDoesNotEndTheDaemon(t *testing.T) {
	t.Run("with an image mounted", func(t *testing.T) {
		h := transporttest.NewHolder(t, 0)
		tr, log := adopt(t, h, deadDevice(t))
		img := newSilent(t, "image", mib)
		img.attach(t, tr)
		serve(t, tr)
		await.True(t, "the death is noticed", func() bool { return log.count(deadAdvice) > 0 })
		checkDead(t, tr, h, log, img, newSilent(t, "other", mib))
	})
	t.Run("with nothing mounted", func(t *testing.T) {
		h := transporttest.NewHolder(t, 0)
		tr, log := adopt(t, h, deadDevice(t))
		serve(t, tr)
		await.True(t, "the device is let go", func() bool { return log.count("dead cache is let go") > 0 })
		if len(h.Held()) != 0 {
			t.Errorf("the holder has %v", h.Held())
		}
	})
}

func TestAnOpenThatADeadCacheDoesNotTakeShowsIt(t *testing.T) {
	tr, _ := adopt(t, nil, deadDevice(t))
	defer func() { _ = tr.Close() }()
	img := newSilent(t, "image", mib)
	img.attach(t, tr)
	fd, err := unix.Dup(tr.dev.fd)
	if err != nil {
		t.Fatal(err)
	}
	s := tr.begin(context.Background())
	s.slots <- struct{}{}
	s.handle(message{op: opOpen, volume: tr.volume, cookie: img.ID, fd: fd})
	s.end()
	if !errors.Is(tr.dead, unix.EIO) {
		t.Errorf("got %v", tr.dead)
	}
}

func TestAfterADeadCacheTheNextMountMakesANewOne(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 21, mixed...)
	img, other := newImage(t, "before", b), newImage(t, "after", b)
	h := transporttest.NewHolder(t, 0)
	d := start(t, config(t, h), ondemand.Options{}, img)
	t.Cleanup(func() { _ = h.Release(HeldName) })
	dir := d.mount(img)
	verify(t, dir, img)
	d.unmount(dir)
	d.waitClosed()
	kill(t, d.tr, d.tr.dev.interrupt)
	if _, err := d.tr.Attach(t.Context(), &ondemand.Image{ID: other.id, MetaPath: other.path, MetaSize: other.size}); !errors.Is(err, ErrDead) {
		t.Errorf("attaching to a dead cache: %v, want %v", err, ErrDead)
	}
	if err := d.tr.Detach(t.Context(), d.images[img.id]); err != nil {
		t.Error(err)
	}
	d.attach(other)
	verify(t, d.mount(other), other)
	if len(h.Held()) != 1 {
		t.Errorf("the new cache's device is not held: %v", h.Held())
	}
}
