package cachefiles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/transporttest"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
)

func TestMain(m *testing.M) {
	kmount.Init()
	if name := os.Getenv(mapEnv); name != "" {
		os.Exit(hashMapped(name))
	}
	if arg := os.Getenv(rogueEnv); arg != "" {
		os.Exit(runRogue(arg))
	}
	os.Exit(m.Run())
}

// mapEnv makes the test binary print the SHA-256 of the mapped file it names, instead of running tests. Faults are taken in a process of their own, because
// a goroutine that waits in a page fault stops the garbage collector, and with it the daemon that is to end the wait.
const mapEnv = "PAGEIN_TEST_MAP"

func hashMapped(name string) int {
	f, err := os.Open(name)
	if err == nil {
		var st os.FileInfo
		if st, err = f.Stat(); err == nil {
			var m []byte
			if m, err = unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED); err == nil {
				var sum byte
				for _, i := range rand.Perm((len(m) + blockSize - 1) / blockSize) { // faults in no order
					sum += m[i*blockSize]
				}
				_ = sum
				fmt.Printf("%x\n", sha256.Sum256(m))
				return 0
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// testBlob is a blob with its files, not yet open in any engine.
type testBlob struct {
	m      *blob.Map
	source *transporttest.Origin
	files  []testFile
}

type testFile struct {
	data  []byte
	block uint64
}

// newBlob packs files of the given sizes, whose content depends on seed alone. Half of each file can be compressed.
func newBlob(t *testing.T, seed uint64, sizes ...int) *testBlob {
	t.Helper()
	var contents [][]byte
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, size := range sizes {
		data := make([]byte, size)
		for i := 0; i+8 <= size/2; i += 8 {
			copy(data[i:], fmt.Sprintf("%8x", rnd.Uint32()))
		}
		for i := size / 2; i < size; i++ {
			data[i] = byte(i / 512)
		}
		contents = append(contents, data)
	}
	return pack(t, contents...)
}

// pack makes a blob of files with the given contents.
func pack(t *testing.T, contents ...[]byte) *testBlob {
	t.Helper()
	var object bytes.Buffer
	w := blob.NewWriter(t.Context(), &object, blob.WriterOptions{})
	var refs []blob.Ref
	for _, data := range contents {
		ref, err := w.Append(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	m, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	b := &testBlob{m: m, source: transporttest.NewOrigin(object.Bytes())}
	for i, ref := range refs {
		b.files = append(b.files, testFile{data: contents[i], block: w.Block(ref)})
	}
	return b
}

// testImage is an image whose directory N holds the files of its Nth blob, and a file "label" of its own in the metadata.
type testImage struct {
	id, path string
	size     int64
	label    string
	blobs    []*testBlob
}

func newImage(t *testing.T, label string, blobs ...*testBlob) *testImage {
	t.Helper()
	var entries []erofs.Dirent
	for d, b := range blobs {
		dir := &erofs.Inode{Mode: unix.S_IFDIR | 0o755}
		for i, f := range b.files {
			dir.Entries = append(dir.Entries, erofs.Dirent{Name: fmt.Sprint(i), Inode: &erofs.Inode{
				Mode: unix.S_IFREG | 0o644, Size: int64(len(f.data)),
				Extents: []erofs.Extent{{Len: int64(len(f.data)), Device: uint16(d + 1), Block: f.block}},
			}})
		}
		entries = append(entries, erofs.Dirent{Name: fmt.Sprint(d), Inode: dir})
	}
	return writeImage(t, label, entries, blobs...)
}

// writeImage writes the metadata of an image whose root has the entries and the file "label".
func writeImage(t *testing.T, label string, entries []erofs.Dirent, blobs ...*testBlob) *testImage {
	t.Helper()
	o := erofs.WriteOptions{InlineData: strings.NewReader(label)}
	for _, b := range blobs {
		o.Devices = append(o.Devices, erofs.Device{Tag: b.m.ID(), Blocks: uint64(b.m.Size() / blockSize)})
	}
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755, Entries: append(entries, erofs.Dirent{Name: "label", Inode: &erofs.Inode{
		Mode: unix.S_IFREG | 0o644, Size: int64(len(label)), Inline: erofs.Inline{Len: len(label)},
	}})}
	f, err := os.Create(filepath.Join(t.TempDir(), "meta"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	stats, err := erofs.Write(f, root, o)
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(all)
	return &testImage{id: hex.EncodeToString(sum[:]), path: f.Name(), size: stats.Size, label: label, blobs: blobs}
}

// daemon is a transport with an engine behind it, serving.
type daemon struct {
	t      *testing.T
	tr     *Transport
	engine *ondemand.Engine
	blobs  map[string]*ondemand.Blob
	images map[string]*ondemand.Image
	cancel context.CancelFunc
	served chan error
	ended  bool
}

// config is that of a cache in a directory of the test's own.
func config(t *testing.T, h *transporttest.Holder) Config {
	dir := filepath.Join(require.Guest(t), "cache-"+t.Name())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := Config{Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if h != nil {
		c.Holder = h
	}
	return c
}

// start starts a daemon that serves the images. It ends with the test.
func start(t *testing.T, cfg Config, o ondemand.Options, images ...*testImage) *daemon {
	t.Helper()
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, tr: tr, blobs: make(map[string]*ondemand.Blob), images: make(map[string]*ondemand.Image), served: make(chan error, 1)}
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	o.Free = func() int64 { // as a node tells it: without this word a full disk counts as full for a second more
		var st unix.Statfs_t
		if err := unix.Statfs(cfg.Dir, &st); err != nil {
			t.Error(err)
		}
		return int64(st.Bfree) * st.Bsize
	}
	if d.engine, err = ondemand.New(cfg.Log, o); err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		d.attach(img)
	}
	var ctx context.Context
	ctx, d.cancel = context.WithCancel(context.Background())
	go func() { d.served <- tr.Serve(ctx) }()
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) attach(img *testImage) {
	d.t.Helper()
	oi := &ondemand.Image{ID: img.id, MetaPath: img.path, MetaSize: img.size}
	for _, b := range img.blobs {
		id := b.m.ID()
		if d.blobs[id] == nil {
			eb, err := d.engine.Blob(b.m, []backend.Object{b.source})
			if err != nil {
				d.t.Fatal(err)
			}
			d.blobs[id] = eb
		}
		oi.Blobs = append(oi.Blobs, d.blobs[id])
	}
	d.images[img.id] = oi
	if _, err := d.tr.Attach(d.t.Context(), oi); err != nil {
		d.t.Fatal(err)
	}
}

// stop ends the daemon the way pageind does when it is told to leave mounts alone.
func (d *daemon) stop() {
	if d.ended {
		return
	}
	d.ended = true
	d.cancel()
	if err := <-d.served; err != nil {
		d.t.Errorf("Serve: %v", err)
	}
	for _, b := range d.blobs {
		b.Close()
	}
	d.engine.Close()
	if err := d.tr.Close(); err != nil {
		d.t.Error(err)
	}
}

// mount mounts the image, until the test ends at the latest.
func (d *daemon) mount(img *testImage) string {
	d.t.Helper()
	dir := d.t.TempDir()
	if err := d.tryMount(img.id, dir); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func (d *daemon) tryMount(id, dir string) error {
	ctx, cancel := context.WithTimeout(d.t.Context(), await.Patience)
	defer cancel()
	return kmount.Mount(ctx, kmount.EROFS{Source: "test", Fsid: id, Domain: d.tr.cfg.Domain}, dir)
}

func (d *daemon) unmount(dir string) {
	d.t.Helper()
	if err := kmount.Unmount(dir, 0); err != nil {
		d.t.Fatal(err)
	}
}

// openKeys lists what the kernel has open, in order.
func (t *Transport) openKeys() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var keys []string
	for _, o := range t.objects {
		keys = append(keys, o.key)
	}
	slices.Sort(keys)
	return keys
}

// waitClosed waits until the kernel has closed everything.
func (d *daemon) waitClosed() {
	d.t.Helper()
	await.True(d.t, "the kernel closes its objects", func() bool { return len(d.tr.openKeys()) == 0 })
}

// verify compares all files of the image with their source.
func verify(t *testing.T, dir string, img *testImage) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "label"))
	if err != nil || string(got) != img.label {
		t.Fatalf("label is %q, %v, want %q", got, err, img.label)
	}
	for n, b := range img.blobs {
		for i, f := range b.files {
			got, err := os.ReadFile(path(dir, n, i))
			if err != nil || !bytes.Equal(got, f.data) {
				t.Fatalf("file %d of blob %d is not what it should be (%d of %d bytes, %v)", i, n, len(got), len(f.data), err)
			}
		}
	}
}

func path(dir string, blob, file int) string {
	return filepath.Join(dir, fmt.Sprint(blob), fmt.Sprint(file))
}
