package cachefiles

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/ondemand"
)

// idleKeys are the keys of files that nothing uses, those first that were used longest ago.
func (d *daemon) idleKeys() (keys []string) {
	d.t.Helper()
	list, err := d.tr.Files(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range list {
		if f.InUse {
			continue
		}
		if f.Bytes <= 0 || time.Since(f.Used) > time.Hour {
			d.t.Errorf("%+v is listed", f)
		}
		keys = append(keys, f.Key)
	}
	return keys
}

// retire unmounts and detaches an image and waits until the kernel has given its cache files their names.
func (d *daemon) retire(dir string, img *testImage, files int) {
	d.t.Helper()
	d.unmount(dir)
	if err := d.tr.Detach(d.t.Context(), d.images[img.id]); err != nil {
		d.t.Fatal(err)
	}
	await.True(d.t, "the cache files are idle", func() bool { return len(d.idleKeys()) == files })
}

// Conformance case 013, and what eviction relies on.
func TestIdleCacheFilesAreCulledAndMountedOnesAreNot(t *testing.T) {
	require.Guest(t)
	startDir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	b, c := newBlob(t, 70, mib, 100), newBlob(t, 71, 2*mib)
	older, newer := newImage(t, "older", b), newImage(t, "newer", c)
	d := start(t, config(t, nil), ondemand.Options{}, older, newer)
	if got := d.idleKeys(); len(got) != 0 {
		t.Errorf("idle in an empty cache: %v", got)
	}
	first, second := d.mount(older), d.mount(newer)
	verify(t, first, older)
	verify(t, second, newer)
	d.retire(first, older, 2)
	for _, key := range []string{newer.id, c.m.ID()} {
		if err := d.tr.Cull(t.Context(), key); !errors.Is(err, ErrInUse) {
			t.Errorf("culling what is mounted: %v, want %v", err, ErrInUse)
		}
	}
	d.retire(second, newer, 4)
	keys := d.idleKeys()
	if keys[0] == newer.id || keys[0] == c.m.ID() || keys[3] == older.id || keys[3] == b.m.ID() {
		t.Errorf("listed are %v, want those of %s first", keys, older.id)
	}
	if err := d.tr.Cull(t.Context(), b.m.ID()); err != nil {
		t.Error(err)
	}
	if err := d.tr.Cull(t.Context(), b.m.ID()); err != nil {
		t.Errorf("culling what is gone: %v", err)
	}
	if got := d.idleKeys(); len(got) != 3 {
		t.Errorf("idle after one of four was culled: %v", got)
	}
	before := fetched(c)
	for _, img := range []*testImage{older, newer} {
		if _, err := d.tr.Attach(t.Context(), d.images[img.id]); err != nil {
			t.Fatal(err)
		}
		verify(t, d.mount(img), img)
	}
	if n := fetched(b); n != 2*b.source.Size() {
		t.Errorf("a culled blob was fetched with %d bytes in all, want twice %d", n, b.source.Size())
	}
	if n := fetched(c); n != before {
		t.Errorf("%d bytes of a blob that was not culled were fetched again", n-before)
	}
	if dir, err := os.Getwd(); err != nil || dir != startDir {
		t.Errorf("the working directory is %s, %v, and was %s", dir, err, startDir)
	}
}

// The kernel's own check is what protects an image that somebody else mounts, whatever the transport believes.
func TestTheKernelRefusesToCullWhatIsMounted(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 72, mib)
	img := newImage(t, "mounted", b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	dir := d.mount(img)
	verify(t, dir, img)
	d.unmount(dir)
	d.waitClosed()
	dir = d.mount(img)
	await.True(t, "the kernel opens both files", func() bool { return len(d.tr.openKeys()) == 2 })
	files, err := filepath.Glob(filepath.Join(d.tr.volumeDir(), "@*", "D*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("the cache has %v, %v", files, err)
	}
	for _, file := range files {
		for _, command := range []string{"inuse ", "cull "} {
			err := d.tr.inCache(func(dev *device) error { return dev.commandIn(filepath.Dir(file), command+filepath.Base(file)) })
			if !errors.Is(err, unix.EBUSY) {
				t.Errorf("%s%s: %v, want %v", command, file, err, unix.EBUSY)
			}
		}
	}
	verify(t, dir, img)
}

// fillDisk takes all space there is, that for root included, until empty is called or the test ends.
func fillDisk(t *testing.T, disk string) (empty func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	empty = func() { _ = os.Remove(f.Name()) }
	t.Cleanup(empty)
	end := int64(0)
	for step := int64(1 << 30); step >= blockSize; {
		switch err := unix.Fallocate(int(f.Fd()), 0, end, step); {
		case err == nil:
			end += step
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		default:
			t.Fatal(err)
		}
	}
	return empty
}

func TestOnAFullDiskReadersGetErrorsAndCullingHeals(t *testing.T) {
	disk := require.Guest(t)
	b, c, e := newBlob(t, 73, 6*mib), newBlob(t, 74, 300*kib, 300*kib), newBlob(t, 75, 100)
	idle, wanted, late := newImage(t, "idle", b), newImage(t, "wanted", c), newImage(t, "late", e)
	d := start(t, config(t, nil), ondemand.Options{Attempts: 1, ReadAhead: -1}, idle, wanted, late)
	first := d.mount(idle)
	verify(t, first, idle)
	d.retire(first, idle, 2)
	dir := d.mount(wanted)
	if _, err := os.ReadFile(path(dir, 0, 0)); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, disk)
	if _, err := os.ReadFile(path(dir, 0, 1)); !errors.Is(err, unix.EIO) {
		t.Errorf("reading what there is no space for gives %v, want %v", err, unix.EIO)
	}
	erofstest.DropCaches(t)
	if _, err := os.ReadFile(path(dir, 0, 0)); err != nil {
		t.Errorf("reading what is there gives %v", err)
	}
	target := t.TempDir()
	if err := d.tryMount(late.id, target); err == nil {
		t.Error("an image was mounted whose metadata has no space")
		unmountSoon(t, target)
	}
	for _, key := range d.idleKeys() {
		if err := d.tr.Cull(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	verify(t, dir, wanted)
	verify(t, d.mount(late), late)
}
