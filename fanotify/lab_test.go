package fanotify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/transporttest"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/store"
)

// tree is a set of files, and the image that holds them in one blob each for small and large ones.
type tree struct {
	files   map[string][]byte
	source  string // directory that holds the same files
	meta    string
	image   string // its ID
	size    int64
	maps    []*blob.Map
	origins []*transporttest.Origin
	track   bool // whether daemons are to track reads
}

func newTree(t testing.TB, dir string, sizes ...int) *tree {
	t.Helper()
	tr := &tree{files: make(map[string][]byte), source: filepath.Join(dir, "source")}
	if err := os.Mkdir(tr.source, 0o755); err != nil {
		t.Fatal(err)
	}
	rnd := rand.NewChaCha8([32]byte{1})
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755}
	var devices []erofs.Device
	for part := range 2 {
		var object bytes.Buffer
		w := blob.NewWriter(t.Context(), &object, blob.WriterOptions{})
		placed := make(map[*erofs.Inode]blob.Ref)
		for i, size := range sizes {
			if i%2 != part {
				continue
			}
			name, data := fmt.Sprintf("f%d", i), make([]byte, size)
			_, _ = rnd.Read(data)
			ref, err := w.Append(bytes.NewReader(data), int64(size))
			if err != nil {
				t.Fatal(err)
			}
			f := &erofs.Inode{Mode: unix.S_IFREG | 0o644, Size: int64(size)}
			placed[f] = ref
			root.Entries = append(root.Entries, erofs.Dirent{Name: name, Inode: f})
			tr.files[name] = data
			if err := os.WriteFile(filepath.Join(tr.source, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		m, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		for f, ref := range placed {
			f.Extents = []erofs.Extent{{Len: f.Size, Device: uint16(part + 1), Block: w.Block(ref)}}
		}
		devices = append(devices, erofs.Device{Tag: m.ID(), Blocks: uint64(m.Size() / blob.BlockSize)})
		tr.maps = append(tr.maps, m)
		tr.origins = append(tr.origins, transporttest.NewOrigin(object.Bytes()))
	}
	tr.meta = filepath.Join(dir, "meta.erofs")
	f, err := os.Create(tr.meta)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stats, err := erofs.Write(f, root, erofs.WriteOptions{Devices: devices})
	if err != nil {
		t.Fatal(err)
	}
	tr.size = stats.Size
	sum := sha256.Sum256([]byte(tr.meta))
	tr.image = hex.EncodeToString(sum[:])
	return tr
}

// daemon is an engine with a transport that serves.
type daemon struct {
	*Transport
	image *ondemand.Image
	stop  func()
}

// complete has all of the image fetched.
func (d *daemon) complete(t *testing.T) {
	t.Helper()
	for _, b := range d.image.Blobs {
		if err := b.Fill(t.Context(), 0, b.Size()); err != nil {
			t.Fatal(err)
		}
	}
}

// successor makes a transport of what is held, and the image for it, which is not attached yet.
func successor(t *testing.T, tr *tree, root string, h *transporttest.Holder, held map[string]int) (*Transport, *ondemand.Image, *store.Store) {
	t.Helper()
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	e, err := ondemand.New(log, ondemand.Options{Attempts: 8, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	img := &ondemand.Image{ID: tr.image, MetaPath: tr.meta, MetaSize: tr.size, Mounted: len(held) > 0}
	for i, m := range tr.maps {
		b, err := e.Blob(m, []backend.Object{tr.origins[i]})
		if err != nil {
			t.Fatal(err)
		}
		img.Blobs = append(img.Blobs, b)
	}
	f, err := New(Config{Store: s, Holder: h, Adopted: held, Track: tr.track, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return f, img, s
}

// serve has a transport serve until the test ends.
func serve(t *testing.T, f *Transport, s *store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-served, f.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}

// start attaches the tree's image and serves it. Adopted are descriptors of an earlier daemon.
func start(t *testing.T, tr *tree, root string, h *transporttest.Holder, adopted map[string]int) (*daemon, kmount.EROFS) {
	t.Helper()
	f, img, s := successor(t, tr, root, h, adopted)
	spec, err := f.Attach(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx) }()
	d := &daemon{Transport: f, image: img}
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, b := range img.Blobs {
			b.Close()
		}
		if err := errors.Join(f.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return d, spec
}

// environment makes directories and a holder, and takes all away in an order in which nothing can hang.
func environment(t *testing.T) (root, mnt string, h *transporttest.Holder) {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	err := Probe(dir)
	require.Feature(t, err == nil, fmt.Sprintf("fanotify pre-content events (%v)", err))
	h = transporttest.NewHolder(t, FirstDescriptor)
	root, mnt = filepath.Join(dir, "root"), filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(mnt, unix.MNT_DETACH)
		h.ReleaseAll() // readers that are still blocked go on
	})
	return root, mnt, h
}

func mount(t *testing.T, spec kmount.EROFS, mnt string) {
	t.Helper()
	if err := kmount.Mount(t.Context(), spec, mnt); err != nil {
		t.Fatal(err)
	}
}

// verify reads random ranges with parallel readers, half of them through mappings, and compares. The readers are in a process of their own: a page fault that
// waits for us would stop our own garbage collector.
func (tr *tree) verify(t *testing.T, mnt string, readers, ranges int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "/proc/self/exe")
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s %s", readerEnv, readers, ranges, mnt, tr.source))
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("readers: %v\n%s", err, out)
	}
}

const (
	readerEnv = "PAGEIN_TEST_READERS" // "readers ranges mount source"
	coldEnv   = "PAGEIN_TEST_COLD"    // set: readers have the kernel forget a file's pages before they read from it
)

// reader is the other process.
func reader() (status int) {
	var readers, ranges int
	var mnt, source string
	if _, err := fmt.Sscan(os.Getenv(readerEnv), &readers, &ranges, &mnt, &source); err != nil {
		panic(err)
	}
	files, err := os.ReadDir(source)
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	var failed atomic.Bool
	for r := range readers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 7))
			for range ranges {
				for _, i := range rnd.Perm(len(files)) {
					if err := compare(rnd, mnt, source, files[i].Name(), r%2 == 1); err != nil {
						fmt.Println(err)
						failed.Store(true)
					}
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() {
		return 1
	}
	return 0
}

// compare reads one range of a file of the mount and of its source.
func compare(rnd *rand.Rand, mnt, source, name string, mapped bool) error {
	st, err := os.Stat(filepath.Join(source, name))
	if err != nil {
		return err
	}
	off := rnd.IntN(int(st.Size()))
	n := min(1+rnd.IntN(300<<10), int(st.Size())-off)
	want, err := readRange(filepath.Join(source, name), off, n, false)
	if err != nil {
		return err
	}
	if os.Getenv(coldEnv) != "" {
		if err := forget(filepath.Join(mnt, name)); err != nil {
			return err
		}
	}
	got, err := readRange(filepath.Join(mnt, name), off, n, mapped)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: wrong bytes in %d+%d, mapped %v", name, off, n, mapped)
	}
	return nil
}

// forget has the kernel drop what it has cached of a file and nobody maps.
func forget(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func readRange(path string, off, n int, mapped bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !mapped {
		b := make([]byte, n)
		_, err := f.ReadAt(b, int64(off))
		return b, err
	}
	page := off &^ 4095
	m, err := unix.Mmap(int(f.Fd()), int64(page), off-page+n, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(m)
	return bytes.Clone(m[off-page:]), nil
}
