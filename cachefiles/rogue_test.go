package cachefiles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/kmount"
)

// rogue is a daemon on the device itself, with nothing of the transport but its messages. It answers as its rules say, which is well where they say nothing.
type rogue struct {
	dev      *device
	contents string // directory with the bytes of each object, by key
	rules    atomic.Pointer[rules]

	mu      sync.Mutex
	objects map[uint32]rogueObject
	seen    map[uint32]int // messages, by opcode
	drop    sync.Once
	quit    chan struct{} // closed when it is to end
	done    chan struct{} // closed when it has
}

type rogueObject struct {
	key string
	fd  int
}

// rules are what a daemon does with messages. In place of nil stand the right answers.
type rules struct {
	open  func(*rogue, message)
	read  func(*rogue, message, rogueObject)
	close func(*rogue, message)
}

// newRogue makes dir a cache and serves it by rules, until stop.
func newRogue(dir, contents string, rs rules) (*rogue, error) {
	dev, err := openDevice()
	if err != nil {
		return nil, err
	}
	if err := dev.bind(dir, "rogue"); err != nil {
		return nil, errors.Join(err, dev.close())
	}
	r := &rogue{dev: dev, contents: contents, objects: make(map[uint32]rogueObject), seen: make(map[uint32]int), quit: make(chan struct{}), done: make(chan struct{})}
	r.rules.Store(&rs)
	go r.serve()
	return r, nil
}

// startRogue is newRogue for one image, until the test ends at the latest.
func startRogue(t *testing.T, dir string, img *testImage, rs rules) *rogue {
	t.Helper()
	r, err := newRogue(dir, writeContents(t, img), rs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// writeContents writes the bytes that the kernel may ask for, one file for each key.
func writeContents(t *testing.T, img *testImage) string {
	t.Helper()
	dir := t.TempDir()
	meta, err := os.ReadFile(img.path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{img.id: meta}
	for _, b := range img.blobs {
		space := make([]byte, b.m.Size())
		for _, f := range b.files {
			copy(space[f.block*blockSize:], f.data)
		}
		all[b.m.ID()] = space
	}
	for key, data := range all {
		if err := os.WriteFile(filepath.Join(dir, key), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (r *rogue) serve() {
	defer close(r.done)
	for {
		select {
		case <-r.quit:
			return
		default:
		}
		m, ok, err := r.dev.next()
		switch {
		case err != nil:
			return
		case !ok:
			if r.dev.wait() != nil {
				return
			}
		default:
			r.handle(m)
		}
	}
}

func (r *rogue) handle(m message) {
	r.mu.Lock()
	r.seen[m.op]++
	o := r.objects[m.object]
	r.mu.Unlock()
	rs := r.rules.Load()
	switch {
	case m.op == opOpen && rs.open != nil:
		rs.open(r, m)
	case m.op == opOpen:
		r.answerOpen(m)
	case m.op == opRead && rs.read != nil:
		rs.read(r, m, o)
	case m.op == opRead:
		r.answerRead(m, o)
	case rs.close != nil:
		rs.close(r, m)
	default:
		r.answerClose(m)
	}
}

func (r *rogue) keep(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.objects[m.object] = rogueObject{key: m.cookie, fd: m.fd}
}

// size is that of an object's contents, or a negative errno.
func (r *rogue) size(key string) int64 {
	st, err := os.Stat(filepath.Join(r.contents, key))
	if err != nil {
		return -int64(unix.ENOENT)
	}
	return st.Size()
}

func (r *rogue) answerOpen(m message) {
	r.keep(m)
	_ = r.dev.copen(m.id, r.size(m.cookie)) // if the kernel does not take it, it does not want it any more
}

func (r *rogue) answerRead(m message, o rogueObject) {
	_ = r.fill(o, m.off, m.n)
	r.complete(o, m.id)
}

func (r *rogue) answerClose(m message) {
	r.mu.Lock()
	o, ok := r.objects[m.object]
	delete(r.objects, m.object)
	r.mu.Unlock()
	if ok {
		_ = unix.Close(o.fd)
	}
}

func (r *rogue) complete(o rogueObject, id uint32) {
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(o.fd), readComplete, uintptr(id))
}

// fill writes a range of an object, as far as it reaches, when the kernel has attached its file.
func (r *rogue) fill(o rogueObject, off, n int64) error {
	f, err := os.Open(filepath.Join(r.contents, o.key))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	buf := aligned(int(min(n, r.size(o.key)-off)))
	if _, err := f.ReadAt(buf, off); err != nil {
		return err
	}
	for range 10000 {
		if _, err = unix.Pwrite(o.fd, buf, off); !errors.Is(err, unix.ENOBUFS) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// object returns what the kernel has open under a key.
func (r *rogue) object(t *testing.T, key string) (o rogueObject) {
	t.Helper()
	await.True(t, "the kernel opens "+key, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, o = range r.objects {
			if o.key == key {
				return true
			}
		}
		return false
	})
	return o
}

// closeObject closes the descriptor of what the kernel has open under a key.
func (r *rogue) closeObject(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, o := range r.objects {
		if o.key == key {
			_ = unix.Close(o.fd)
			delete(r.objects, id)
		}
	}
}

func (r *rogue) count(op uint32) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[op]
}

// dropDevice closes the device and leaves the objects open.
func (r *rogue) dropDevice() {
	r.drop.Do(func() {
		close(r.quit)
		r.dev.interrupt()
		<-r.done
		_ = r.dev.close()
	})
}

// stop closes everything, as the end of its process would.
func (r *rogue) stop() {
	r.dropDevice()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, o := range r.objects {
		_ = unix.Close(o.fd)
		delete(r.objects, id)
	}
}

// mountBy mounts an image that is served by anybody, until the test ends at the latest.
func mountBy(t *testing.T, img *testImage) (string, error) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, kmount.Mount(ctx, kmount.EROFS{Source: "test", Fsid: img.id, Domain: "pagein"}, dir)
}

// mustMount is mountBy where it must succeed.
func mustMount(t *testing.T, img *testImage) string {
	t.Helper()
	dir, err := mountBy(t, img)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ends waits for what must not hang.
func ends[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(await.Patience):
		t.Fatalf("still hangs: %s", what)
	}
	return v
}

// unmountSoon unmounts what a child of ours may have open for a moment more: between fork and exec it has all our files.
func unmountSoon(t *testing.T, dir string) {
	t.Helper()
	var err error
	for range 100 {
		if err = kmount.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
}

// healthy has a daemon of ours take the cache over and serve the image, every byte of it.
func healthy(t *testing.T, cfg Config, img *testImage) {
	t.Helper()
	d := start(t, cfg, defaults(), img)
	dir := d.mount(img)
	verify(t, dir, img)
	d.unmount(dir)
	d.stop()
}

// rogueEnv makes the test binary a daemon that never answers a READ, of the cache directory and the contents that it names. It says "ready" when it has a READ.
const rogueEnv = "PAGEIN_TEST_ROGUE"

func runRogue(arg string) int {
	dir, contents, _ := strings.Cut(arg, ":")
	ready := make(chan struct{}, 1024)
	_, err := newRogue(dir, contents, rules{read: func(*rogue, message, rogueObject) { ready <- struct{}{} }})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("bound")
	for range ready {
		fmt.Println("ready")
	}
	return 0
}

// startRogueProcess starts a daemon as [rogueEnv] says in a process of its own. said gets its lines.
func startRogueProcess(t *testing.T, dir string, img *testImage) (cmd *exec.Cmd, said <-chan string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), rogueEnv+"="+dir+":"+writeContents(t, img))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			for line := range strings.Lines(string(buf[:n])) {
				lines <- strings.TrimSpace(line)
			}
			if err != nil {
				return
			}
		}
	}()
	return cmd, lines
}
