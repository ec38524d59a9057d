package cachefiles

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

	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/ondemand"
)

// The tests in this file are about what a kernel does with a daemon's answers, wrong ones above all. Upstream's conformance cases for cachefiles (erofs-utils, branch
// experimental-tests-fscache, tests/fscache/001 to 014) are all here or in guest_test.go; their numbers are in the comments. 008 and 009 are in cmd/pageind.

func defaults() ondemand.Options { return ondemand.Options{} }

// small is an image for tests of the protocol.
func small(t *testing.T, seed uint64) *testImage {
	t.Helper()
	return newImage(t, t.Name(), newBlob(t, seed, 100, 200*kib, 300*kib))
}

// readsWell fails the test unless the file is right.
func readsWell(t *testing.T, dir string, img *testImage) {
	t.Helper()
	if got, err := os.ReadFile(path(dir, 0, 1)); err != nil || !bytes.Equal(got, img.blobs[0].files[1].data) {
		t.Errorf("a read gives %d bytes, %v", len(got), err)
	}
}

// Case 001: data in the tail of an inode, in blocks of the image itself, and on devices. The last is what all other tests have.
func TestDataInTheImageItselfIsServed(t *testing.T) {
	require.Guest(t)
	data := bytes.Repeat([]byte("in the image itself "), 20000)
	size := int64(len(data)) / blockSize * blockSize
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(data[:size], blockSize); err != nil {
		t.Fatal(err)
	}
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: []erofs.Dirent{{Name: "label", Inode: &erofs.Inode{
		Mode: unix.S_IFREG | 0o644, Size: int64(len(data)),
		Extents: []erofs.Extent{{Len: size, Block: 1}}, Inline: erofs.Inline{Len: len(data) - int(size)},
	}}}}
	stats, err := erofs.Write(f, root, erofs.WriteOptions{MetaBlock: 1 + uint64(size/blockSize), InlineData: bytes.NewReader(data[size:])})
	if err != nil {
		t.Fatal(err)
	}
	img := &testImage{id: "plain-image", path: name, size: stats.Size, label: string(data)}
	d := start(t, config(t, nil), defaults(), img)
	verify(t, d.mount(img), img)
}

// Case 002: a cookie whose OPEN was refused is not in use for ever. Without its blobs an image can be mounted, as nothing of them is read then.
func TestARefusedOpenCanBeOpenedAgain(t *testing.T) {
	require.Guest(t)
	img := small(t, 51)
	for name, key := range map[string]string{"metadata": img.id, "blob": img.blobs[0].m.ID()} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, nil)
			r := startRogue(t, cfg.Dir, img, rules{open: func(r *rogue, m message) {
				if m.cookie != key {
					r.answerOpen(m)
					return
				}
				_ = r.dev.copen(m.id, -int64(unix.EACCES))
				_ = unix.Close(m.fd)
			}})
			for range 2 {
				dir, err := mountBy(t, img)
				if err == nil && key == img.id {
					t.Fatal("an image was mounted whose OPEN was refused")
				}
				if err != nil {
					continue
				}
				if got, err := os.ReadFile(path(dir, 0, 1)); err == nil || len(got) > 0 {
					t.Errorf("a blob that was refused gives %d bytes, %v", len(got), err)
				}
				unmountSoon(t, dir)
			}
			r.rules.Store(&rules{})
			dir := mustMount(t, img)
			readsWell(t, dir, img)
			unmountSoon(t, dir)
			r.stop()
			healthy(t, cfg, img)
		})
	}
}

// Case 003: another tag is another cache to the kernel, in the same directory.
func TestADaemonWithAnotherTagFindsTheSameFiles(t *testing.T) {
	require.Guest(t)
	img := small(t, 52)
	cfg := config(t, nil)
	for _, tag := range []string{"one", "two", "one"} {
		cfg.Tag = tag
		healthy(t, cfg, img)
	}
	if n := fetched(img.blobs...); n != img.blobs[0].source.Size() {
		t.Errorf("%d bytes were fetched in all, the source has %d", n, img.blobs[0].source.Size())
	}
}

// Case 004: before the OPEN is answered there is no file to write to.
func TestADescriptorIsNotReadyBeforeItsOpenIsAnswered(t *testing.T) {
	require.Guest(t)
	img := small(t, 53)
	cfg := config(t, nil)
	early := make(chan error, 8)
	r := startRogue(t, cfg.Dir, img, rules{open: func(r *rogue, m message) {
		_, werr := unix.Pwrite(m.fd, aligned(blockSize), 0)
		_, serr := unix.Seek(m.fd, 0, unix.SEEK_DATA)
		early <- werr
		early <- serr
		r.answerOpen(m)
	}})
	readsWell(t, mustMount(t, img), img)
	r.stop()
	for len(early) > 0 {
		if err := <-early; !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("an early use gives %v, want %v", err, unix.ENOBUFS)
		}
	}
}

// Case 005: whatever a daemon answered, or did not, when it is gone nobody hangs, no reader has got wrong bytes, and the next daemon serves.
func TestAfterAMisbehavingDaemonTheNextOneServes(t *testing.T) {
	require.Guest(t)
	silent := func(*rogue, message) {}
	opens := map[string]func(*rogue, message){
		"well": nil, "never": func(r *rogue, m message) { r.keep(m) },
		"with an error": func(r *rogue, m message) {
			_ = r.dev.copen(m.id, -int64(unix.EIO))
			_ = unix.Close(m.fd)
		},
		"with nonsense": func(r *rogue, m message) {
			r.keep(m)
			for _, answer := range []string{"copen", "copen x,y", "copen 99999,4096", fmt.Sprintf("copen %d,-5000", m.id), "cread 1", strings.Repeat("x", 5000)} {
				_ = r.dev.command(answer)
			}
		},
		"by closing it": func(_ *rogue, m message) { _ = unix.Close(m.fd) },
		"too small": func(r *rogue, m message) {
			r.keep(m)
			_ = r.dev.copen(m.id, blockSize)
		},
		"too large": func(r *rogue, m message) {
			r.keep(m)
			_ = r.dev.copen(m.id, 1<<40)
		},
	}
	reads := map[string]func(*rogue, message, rogueObject){
		"well": nil, "never": func(*rogue, message, rogueObject) {},
		"without data": func(r *rogue, m message, o rogueObject) { r.complete(o, m.id) },
		"for another": func(r *rogue, m message, o rogueObject) {
			r.complete(o, m.id+1000)
		},
		"by closing": func(r *rogue, m message, _ rogueObject) { r.answerClose(m) },
		"in part, then twice": func(r *rogue, m message, o rogueObject) {
			_ = r.fill(o, m.off, blockSize)
			r.complete(o, m.id)
			r.complete(o, m.id)
		},
	}
	closes := map[string]func(*rogue, message){"well": nil, "never": silent, "and no more": func(r *rogue, _ message) { <-r.quit }}
	for _, c := range []struct{ open, read, close string }{
		{"with an error", "well", "well"}, {"never", "well", "well"}, {"with nonsense", "well", "well"}, {"by closing it", "well", "never"}, {"too small", "well", "well"},
		{"too large", "well", "well"}, {"well", "never", "well"}, {"well", "without data", "well"}, {"well", "for another", "never"}, {"well", "by closing", "well"},
		{"well", "in part, then twice", "well"}, {"well", "well", "never"}, {"well", "well", "and no more"}, {"well", "without data", "and no more"},
		{"too large", "without data", "never"}, {"with an error", "without data", "never"},
	} {
		t.Run(fmt.Sprintf("opens %s, reads %s, closes %s", c.open, c.read, c.close), func(t *testing.T) {
			img := small(t, 54)
			cfg := config(t, nil)
			r := startRogue(t, cfg.Dir, img, rules{open: opens[c.open], read: reads[c.read], close: closes[c.close]})
			target := t.TempDir()
			t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
			user := make(chan error, 1)
			go func() { user <- useImage(t, img, target) }()
			select {
			case err := <-user:
				user <- err
			case <-time.After(500 * time.Millisecond): // it hangs, until the daemon is gone
			}
			r.stop()
			if err := ends(t, "the image's user", user); errors.Is(err, errWrong) && c.open != "too small" {
				t.Error(err)
			}
			_ = unix.Unmount(target, unix.MNT_DETACH)
			healthy(t, cfg, img)
		})
	}
}

var errWrong = errors.New("wrong bytes")

// useImage mounts an image, reads a file, and unmounts it.
func useImage(t *testing.T, img *testImage, target string) error {
	if err := kmount.Mount(t.Context(), kmount.EROFS{Source: "test", Fsid: img.id, Domain: "pagein"}, target); err != nil {
		return err
	}
	for i, f := range img.blobs[0].files {
		got, err := os.ReadFile(path(target, 0, i))
		if err == nil && !bytes.Equal(got, f.data) {
			return fmt.Errorf("%w: file %d", errWrong, i)
		}
	}
	return kmount.Unmount(target, 0)
}

// Case 006: a descriptor that is closed before its OPEN is answered fails the mount; one that is closed later is opened again.
func TestADescriptorThatIsClosedEarlyIsOpenedAgain(t *testing.T) {
	require.Guest(t)
	img := small(t, 55)
	cfg := config(t, nil)
	r := startRogue(t, cfg.Dir, img, rules{open: func(r *rogue, m message) {
		_ = unix.Close(m.fd)
		_ = r.dev.copen(m.id, r.size(m.cookie))
	}})
	if _, err := mountBy(t, img); err == nil {
		t.Error("an image was mounted whose descriptors were closed before their OPEN was answered")
	}
	r.rules.Store(&rules{})
	dir := mustMount(t, img)
	opens := r.count(opOpen)
	for _, key := range []string{img.id, img.blobs[0].m.ID()} {
		r.closeObject(key)
	}
	readsWell(t, dir, img)
	if r.count(opOpen) == opens {
		t.Error("nothing was opened again")
	}
}

// Case 007: a READ that is answered without data is an error to its reader, and nothing stays of it.
func TestAReadThatIsAnsweredWithoutDataIsAnError(t *testing.T) {
	require.Guest(t)
	img := small(t, 56)
	cfg := config(t, nil)
	r := startRogue(t, cfg.Dir, img, rules{})
	dir := mustMount(t, img)
	if _, err := os.Stat(path(dir, 0, 1)); err != nil { // metadata is wanted now, and the file's bytes later
		t.Fatal(err)
	}
	r.rules.Store(&rules{read: func(r *rogue, m message, o rogueObject) { r.complete(o, m.id) }})
	if got, err := os.ReadFile(path(dir, 0, 1)); err == nil || len(got) > 0 {
		t.Errorf("a read without data gives %d bytes, %v", len(got), err)
	}
	r.rules.Store(&rules{})
	readsWell(t, dir, img)
}

// Case 010: the descriptor tells what the kernel has.
func TestDescriptorsTellDataFromHoles(t *testing.T) {
	require.Guest(t)
	img := small(t, 57)
	cfg := config(t, nil)
	r := startRogue(t, cfg.Dir, img, rules{})
	mustMount(t, img)
	o := r.object(t, img.blobs[0].m.ID())
	type extent struct{ off, n int64 }
	want := []extent{{0, 2 * blockSize}, {16 * blockSize, blockSize}, {r.size(o.key) - blockSize, blockSize}}
	for _, e := range want {
		if err := r.fill(o, e.off, e.n); err != nil {
			t.Fatal(err)
		}
	}
	var got []extent
	obj := &object{key: o.key, fd: o.fd, size: r.size(o.key)}
	if err := obj.extents(func(off, n int64) error {
		got = append(got, extent{off, n})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the descriptor shows data at %v, want %v", got, want)
	}
	if _, err := unix.Seek(o.fd, obj.size, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
		t.Errorf("data beyond the end: %v", err)
	}
}

// Case 011: the device is closed first, as when a holder of objects lives longer than that of the device.
func TestADeviceThatIsClosedBeforeItsObjectsHangsNobody(t *testing.T) {
	require.Guest(t)
	img := small(t, 58)
	cfg := config(t, nil)
	waiting := make(chan bool, 100)
	r := startRogue(t, cfg.Dir, img, rules{read: func(r *rogue, m message, o rogueObject) {
		if o.key == img.id {
			r.answerRead(m, o)
			return
		}
		waiting <- true
	}})
	dir := mustMount(t, img)
	read := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(path(dir, 0, 1))
		read <- err
	}()
	ends(t, "the READ", waiting)
	r.dropDevice()
	if err := ends(t, "the reader", read); err == nil {
		t.Error("a reader got bytes that nobody had")
	}
	if err := Probe(); err == nil {
		t.Error("the device is free though objects are open")
	}
	unmountSoon(t, dir)
	r.stop()
	healthy(t, cfg, img)
}

// Case 012: readers that wait for a daemon which is killed get an error.
func TestKillingADaemonThatNobodyBacksEndsItsReaders(t *testing.T) {
	require.Guest(t)
	img := small(t, 59)
	cfg := config(t, nil)
	daemon, said := startRogueProcess(t, cfg.Dir, img)
	if line := ends(t, "the daemon", said); line != "bound" {
		t.Fatal(line)
	}
	var busy *BusyError
	if _, err := New(cfg); !errors.As(err, &busy) || !strings.Contains(err.Error(), fmt.Sprintf("(%d)", daemon.Process.Pid)) {
		t.Errorf("with another daemon: %v, want its process named", err)
	}
	read := make(chan error, 1)
	go func() {
		// The metadata is asked for too, so the mount waits.
		_, err := mountBy(t, img)
		read <- err
	}()
	if line := ends(t, "the daemon", said); line != "ready" {
		t.Fatal(line)
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := ends(t, "the mount", read); err == nil {
		t.Error("an image was mounted that nobody served")
	}
	_ = daemon.Wait()
	healthy(t, cfg, img)
}

// Case 014: several images at a time, in one domain, that come and go while others are read.
func TestImagesComeAndGoWhileOthersAreRead(t *testing.T) {
	require.Guest(t)
	shared := newBlob(t, 60, mixed...)
	var images []*testImage
	for i := range 4 {
		images = append(images, newImage(t, fmt.Sprintf("image %d", i), newBlob(t, 61+uint64(i), 5000, 200*kib), shared))
	}
	d := start(t, config(t, nil), defaults(), images...)
	var wg sync.WaitGroup
	for _, img := range images {
		dir := t.TempDir()
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		wg.Go(func() {
			for range 3 {
				if err := d.tryMount(img.id, dir); err != nil {
					t.Errorf("%s: %v", img.label, err)
					return
				}
				verify(t, dir, img)
				unmountSoon(t, dir)
			}
		})
	}
	wg.Wait()
	d.waitClosed()
	if n := fetched(shared); n != shared.source.Size() {
		t.Errorf("the shared blob was fetched with %d bytes, its source has %d", n, shared.source.Size())
	}
}
