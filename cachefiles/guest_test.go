package cachefiles

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/transporttest"
	"github.com/pagein/pagein/ondemand"
)

// The tests in this file need a kernel with EROFS over fscache, which package vmtests boots. Each uses a cache directory of its own.

const (
	kib = 1 << 10
	mib = 1 << 20
)

// mixed are sizes around the borders of blocks, readahead and frames.
var mixed = []int{1, 4095, 4096, 4097, 20000, 64 * kib, 64*kib + 1, 128 * kib, 300 * kib, mib, 3*mib + 5}

func fetched(blobs ...*testBlob) (n int64) {
	for _, b := range blobs {
		n += b.source.Bytes.Load()
	}
	return n
}

func TestColdReadGivesTheSourcesBytes(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 1, mixed...)
	img := newImage(t, "cold", b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	dir := d.mount(img)
	if n := fetched(b); n != 0 {
		t.Errorf("mounting fetched %d bytes", n)
	}
	verify(t, dir, img)
	if n := fetched(b); n != b.source.Size() {
		t.Errorf("reading everything fetched %d bytes, the source has %d", n, b.source.Size())
	}
}

func TestOnlyWhatIsReadIsFetched(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 2, 4*mib, 4*mib, 4*mib)
	img := newImage(t, "lazy", b)
	d := start(t, config(t, nil), ondemand.Options{ReadAhead: -1}, img)
	dir := d.mount(img)
	got, err := os.ReadFile(path(dir, 0, 1))
	if err != nil || !bytes.Equal(got, b.files[1].data) {
		t.Fatalf("read: %v", err)
	}
	if n := fetched(b); n == 0 || n > b.source.Size()/2 {
		t.Errorf("one file of three fetched %d of %d bytes", n, b.source.Size())
	}
}

func TestWarmReadAsksForNothing(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 3, mixed...)
	img := newImage(t, "warm", b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	dir := d.mount(img)
	verify(t, dir, img)
	reads, bytes := d.tr.Reads(), fetched(b)
	erofstest.DropCaches(t)
	verify(t, dir, img)
	if d.tr.Reads() != reads || fetched(b) != bytes {
		t.Errorf("the second reading made %d requests and fetched %d bytes", d.tr.Reads()-reads, fetched(b)-bytes)
	}
}

func TestRemountAsksForNothing(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 4, mixed...)
	img := newImage(t, "remount", b)
	cfg := config(t, nil)
	d := start(t, cfg, ondemand.Options{}, img)
	dir := d.mount(img)
	verify(t, dir, img)
	d.unmount(dir)
	d.waitClosed()
	reads, bytes := d.tr.Reads(), fetched(b)

	t.Run("same daemon", func(t *testing.T) {
		dir := d.mount(img)
		verify(t, dir, img)
		d.unmount(dir)
		if d.tr.Reads() != reads || fetched(b) != bytes {
			t.Errorf("made %d requests and fetched %d bytes", d.tr.Reads()-reads, fetched(b)-bytes)
		}
	})
	t.Run("next daemon", func(t *testing.T) {
		d.stop()
		d := start(t, cfg, ondemand.Options{}, img)
		if eb := d.blobs[b.m.ID()]; eb.Bound() || d.tr.Stored(eb.ID()) < eb.Size() {
			t.Errorf("before the kernel opens it, %d of %d bytes are stored", d.tr.Stored(eb.ID()), eb.Size())
		}
		if n := d.tr.Stored("stranger"); n != 0 {
			t.Errorf("%d bytes are stored of what is not there", n)
		}
		dir := d.mount(img)
		verify(t, dir, img)
		await.True(t, "all bytes to be known as present", d.blobs[b.m.ID()].Complete)
		d.unmount(dir)
		if d.tr.Reads() != 0 || fetched(b) != bytes {
			t.Errorf("made %d requests and fetched %d bytes", d.tr.Reads(), fetched(b)-bytes)
		}
	})
}

func TestSharedBlobIsFetchedOnce(t *testing.T) {
	require.Guest(t)
	shared, own := newBlob(t, 5, mixed...), newBlob(t, 6, 50000)
	one, two := newImage(t, "one", shared), newImage(t, "two", own, shared)
	d := start(t, config(t, nil), ondemand.Options{}, one, two)
	first := d.mount(one)
	verify(t, first, one)
	second := d.mount(two)
	verify(t, second, two)
	if n := fetched(shared); n != shared.source.Size() {
		t.Errorf("two images fetched %d bytes of a blob whose source has %d", n, shared.source.Size())
	}
	// The blob must stay served when the image goes that opened it.
	d.unmount(first)
	if err := d.tr.Detach(t.Context(), d.images[one.id]); err != nil {
		t.Error(err)
	}
	erofstest.DropCaches(t)
	verify(t, second, two)
	d.unmount(second)
	d.waitClosed()
}

func TestSeveralBlobsInOneImage(t *testing.T) {
	require.Guest(t)
	var blobs []*testBlob
	for i := range 12 {
		blobs = append(blobs, newBlob(t, 100+uint64(i), 5000*(i+1), 200*kib, 1))
	}
	img := newImage(t, "several", blobs...)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	verify(t, d.mount(img), img)
	if got := len(d.tr.openKeys()); got != len(blobs)+1 {
		t.Errorf("the kernel has %d objects open, want the metadata and %d blobs", got, len(blobs))
	}
}

func TestMappedFilesAreServed(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 7, 2*mib+100)
	img := newImage(t, "mmap", b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), mapEnv+"="+path(d.mount(img), 0, 0))
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("%x\n", sha256.Sum256(b.files[0].data)); err != nil || string(out) != want {
		t.Errorf("a process that maps the file says %q, %v, want %q", out, err, want)
	}
}

func TestRandomReadersGetTheSourcesBytes(t *testing.T) {
	require.Guest(t)
	b, c := newBlob(t, 8, mixed...), newBlob(t, 9, 5*mib, 10000, 10000, 10000)
	img := newImage(t, "random", b, c)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	dir := d.mount(img)
	var wg sync.WaitGroup
	for r := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 3))
			for range 60 {
				n := rnd.IntN(2)
				i := rnd.IntN(len(img.blobs[n].files))
				if err := readSomewhere(rnd, path(dir, n, i), img.blobs[n].files[i].data); err != nil {
					t.Errorf("reader %d, file %d of blob %d: %v", r, i, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	verify(t, dir, img)
	if n, want := fetched(b, c), b.source.Size()+c.source.Size(); n != want {
		t.Errorf("16 readers fetched %d bytes, the sources have %d", n, want)
	}
}

func readSomewhere(rnd *rand.Rand, name string, want []byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	off := rnd.IntN(len(want))
	buf := make([]byte, min(1+rnd.IntN(200*kib), len(want)-off))
	if _, err := f.ReadAt(buf, int64(off)); err != nil {
		return err
	}
	if !bytes.Equal(buf, want[off:off+len(buf)]) {
		return fmt.Errorf("%d bytes at %d are wrong", len(buf), off)
	}
	return nil
}

func TestUnmountWhileReading(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 10, 2*mib, 2*mib)
	release := transporttest.HoldUp(b.source)
	img := newImage(t, "unmount", b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	dir := d.mount(img)
	f, err := os.Open(path(dir, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		got := make([]byte, len(b.files[0].data))
		_, err := f.ReadAt(got, 0)
		if err == nil && !bytes.Equal(got, b.files[0].data) {
			err = errors.New("wrong bytes")
		}
		read <- err
	}()
	await.True(t, "the reader waits", func() bool { return b.source.Requests.Load() > 0 })
	if err := kmount.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
		t.Errorf("umount while a file is read: %v, want EBUSY", err)
	}
	if err := kmount.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-read; err != nil {
		t.Errorf("the reader that was there before the umount got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	verify(t, d.mount(img), img) // read-ahead may be writing right now
}

// TestReadAheadOutlivesItsMount unmounts images while frames are on their way that nobody waits for. Their writes fail, which must not pass for want of space: the next mount's
// readers would be told so.
func TestReadAheadOutlivesItsMount(t *testing.T) {
	require.Guest(t)
	var images []*testImage
	for n := range 16 {
		images = append(images, newImage(t, fmt.Sprintf("ahead%d", n), newBlob(t, uint64(100+n), 2*mib, 2*mib)))
	}
	d := start(t, config(t, nil), ondemand.Options{}, images...)
	for _, img := range images {
		dir := d.mount(img)
		f, err := os.Open(path(dir, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 256*kib), 0); err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := kmount.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		verify(t, d.mount(img), img)
	}
}

func TestFailedReadIsAnErrorAndThenHealthy(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 11, 2*mib)
	b.source.Broken.Store(true)
	img := newImage(t, "eio", b)
	d := start(t, config(t, nil), ondemand.Options{Attempts: 2}, img)
	dir := d.mount(img)
	for range 2 {
		if _, err := os.ReadFile(path(dir, 0, 0)); !errors.Is(err, unix.EIO) {
			t.Errorf("reading from a broken source gives %v, want EIO", err)
		}
	}
	b.source.Broken.Store(false)
	verify(t, dir, img)
}

func TestFullDiskIsAnErrorAndThenHealthy(t *testing.T) {
	disk := require.Guest(t)
	b := newBlob(t, 12, 8*mib)
	img := newImage(t, "full", b)
	d := start(t, config(t, nil), ondemand.Options{Attempts: 1, ReadAhead: -1}, img)
	dir := d.mount(img)
	empty := fillDisk(t, disk)
	if _, err := os.ReadFile(path(dir, 0, 0)); !errors.Is(err, unix.EIO) {
		t.Errorf("reading onto a full disk gives %v, want EIO", err)
	}
	empty()
	verify(t, dir, img)
}

func TestRestartWhileAReaderWaits(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 13, mib, 2*mib, 300000)
	img := newImage(t, "restart", b)
	h := transporttest.NewHolder(t, 0)
	cfg := config(t, h)
	d := start(t, cfg, ondemand.Options{ReadAhead: -1}, img)
	t.Cleanup(func() { _ = h.Release(HeldName) })
	dir := d.mount(img)
	if _, err := os.ReadFile(path(dir, 0, 0)); err != nil {
		t.Fatal(err)
	}
	release := transporttest.HoldUp(b.source)
	before := b.source.Requests.Load()
	read := make(chan error, 16)
	for range cap(read) {
		go func() {
			got, err := os.ReadFile(path(dir, 0, 1))
			if err == nil && !bytes.Equal(got, b.files[1].data) {
				err = errors.New("wrong bytes")
			}
			read <- err
		}()
	}
	await.True(t, "a reader waits", func() bool { return b.source.Requests.Load() > before })
	for range 3 {
		d.stop()
		cfg.Adopted = h.Take(t)
		d = start(t, cfg, ondemand.Options{ReadAhead: -1}, img)
		await.True(t, "the successor is asked", func() bool { return d.tr.Reads() > 0 })
	}
	release()
	for range cap(read) {
		select {
		case err := <-read:
			if err != nil {
				t.Errorf("a reader that waited got %v", err)
			}
		case <-time.After(await.Patience):
			t.Fatal("a reader still waits")
		}
	}
	verify(t, dir, img)
	// What the first daemon had fetched is not fetched again, and a mount made under one daemon can be replaced under another.
	if n := fetched(b); n != b.source.Size() {
		t.Errorf("%d bytes were fetched in all, the source has %d", n, b.source.Size())
	}
	d.unmount(dir)
	d.waitClosed()
	verify(t, d.mount(img), img)
}

func TestWithoutADaemonReadersGetErrorsNotZeros(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 14, mib, mib)
	img := newImage(t, "abandoned", b)
	d := start(t, config(t, nil), ondemand.Options{ReadAhead: -1}, img)
	dir := d.mount(img)
	d.stop() // with nobody holding the device
	// Linux 6.1 says EIO, 6.12 ENOBUFS; what counts is that no bytes come.
	if got, err := os.ReadFile(path(dir, 0, 1)); err == nil || len(got) > 0 {
		t.Errorf("a mount that was abandoned gives %d bytes, %v", len(got), err)
	}
}

func TestUnknownImageIsRefused(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 15, 10000)
	img, stranger := newImage(t, "known", b), newImage(t, "stranger", b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	for range 2 {
		if err := d.tryMount(stranger.id, t.TempDir()); err == nil {
			t.Error("an image that is not attached was mounted")
		}
	}
	verify(t, d.mount(img), img)
	d.attach(stranger)
	verify(t, d.mount(stranger), stranger)
}

func TestAttachRefusesWhatItCannotServe(t *testing.T) {
	require.Guest(t)
	b := newBlob(t, 16, 10000)
	img := newImage(t, "attach", b)
	d := start(t, config(t, nil), ondemand.Options{}, img)
	for name, bad := range map[string]*ondemand.Image{
		"twice":        d.images[img.id],
		"long name":    {ID: strings.Repeat("a", 253), MetaPath: img.path, MetaSize: img.size},
		"ragged size":  {ID: "x", MetaPath: img.path, MetaSize: 4097},
		"blob as meta": {ID: b.m.ID(), MetaPath: img.path, MetaSize: img.size, Blobs: d.images[img.id].Blobs},
	} {
		if _, err := d.tr.Attach(t.Context(), bad); err == nil {
			t.Errorf("%s: attached", name)
		}
	}
	verify(t, d.mount(img), img)
}

func TestUnusableDevicesAreExplained(t *testing.T) {
	require.Guest(t)
	cfg := config(t, nil)
	t.Run("memory file system", func(t *testing.T) {
		memory := cfg
		memory.Dir = t.TempDir()
		var unsupported *kmount.UnsupportedError
		if _, err := New(memory); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), memory.Dir) {
			t.Errorf("a cache on tmpfs: %v", err)
		}
	})
	t.Run("absent directory", func(t *testing.T) {
		absent := cfg
		absent.Dir = filepath.Join(cfg.Dir, "absent", "deep")
		tr, err := New(absent)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("second daemon", func(t *testing.T) {
		tr, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := tr.Close(); err != nil {
				t.Error(err)
			}
		}()
		var busy *BusyError
		_, err = New(cfg)
		if !errors.As(err, &busy) || !strings.Contains(err.Error(), fmt.Sprintf("(%d)", os.Getpid())) {
			t.Errorf("a second daemon: %v, want this process named", err)
		}
		if err := Probe(); !errors.As(err, &busy) {
			t.Errorf("probe: %v", err)
		}
	})
	if err := Probe(); err != nil {
		t.Errorf("probe of an unused device: %v", err)
	}
}
